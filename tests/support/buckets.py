"""A server that speaks S3, on loopback: moto's, which nothing else needs (`pip install moto flask flask-cors`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def bucket_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Yield s3fs's file system, with a bucket named `bucket`. Skips the test if moto is not installed."""
    fsspec = pytest.importorskip("fsspec")
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # they know the address of an earlier server
    files = fsspec.filesystem("s3", use_listings_cache=False)
    files.makedirs("bucket", exist_ok=True)
    try:
        yield files
    finally:
        server.stop()
