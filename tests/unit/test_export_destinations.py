"""Destinations of exports: which errors last, and in which order a bucket is emptied."""

import errno
import os
from contextlib import suppress
from typing import Any

import pytest
from bson import ObjectId

from worker.errors import SnapshotError
from worker.exports import bucket
from worker.exports.bucket import Bucket
from worker.exports.destination import DestinationFailed, DestinationUnavailable, destination_errors

LASTING = (
    "ENOSPC",
    "EDQUOT",
    "EROFS",
    "EACCES",
    "EPERM",
    "ENOENT",
    "ENOTDIR",
    "EFBIG",
    "EXDEV",
    "EBUSY",
    "ENAMETOOLONG",
    "ENOTEMPTY",
    "EEXIST",
    "EISDIR",
)
PASSING = ("EIO", "ETIMEDOUT", "ESTALE", "ECONNRESET", "EHOSTDOWN", "EINTR")


@pytest.mark.parametrize("name", LASTING)
def test_error_that_lasts_fails_the_export_with_the_reason(name: str) -> None:
    number = getattr(errno, name)
    with pytest.raises(DestinationFailed, match=os.strerror(number)), destination_errors("/exports"):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("name", PASSING)
def test_error_that_passes_lets_the_export_be_tried_again(name: str) -> None:
    number = getattr(errno, name)
    with pytest.raises(DestinationUnavailable, match=os.strerror(number)), destination_errors("/exports"):
        raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("error", [TimeoutError(), OSError("\n"), ConnectionResetError()])
def test_error_without_a_text_is_named_by_its_kind(error: OSError) -> None:
    """A time limit of fsspec is one. The export is tried again instead of waiting for the end of its lease."""
    with pytest.raises(DestinationUnavailable, match=type(error).__name__), destination_errors("s3://bucket"):
        raise error


def test_slice_that_publishes_during_a_removal_leaves_nothing_in_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    memory: Any = pytest.importorskip("fsspec.implementations.memory")
    pytest.importorskip("botocore")

    class Racing(memory.MemoryFileSystem):  # type: ignore[misc]
        """A file system in which another slice publishes after each removal."""

        store: dict[str, Any] = {}  # noqa: RUF012 - fsspec's own name for its content
        pseudo_dirs = [""]  # noqa: RUF012
        cachable = False

        def rm(self, found: list[str]) -> None:
            super().rm(found)
            with suppress(SnapshotError):
                own.publish({"train.jsonl": "slice-1/train-0", "manifest.json": "slice-1/manifest"}, "slice-1")

    files = Racing()
    monkeypatch.setattr(bucket, "open_s3", lambda _: files)
    own = Bucket("s3://bucket/sets", ObjectId())
    for name in ("train-0", "manifest"):
        with own.create("slice-1", name) as file:
            file.write(b"{}")
    own.publish({"train.jsonl": "slice-1/train-0", "manifest.json": "slice-1/manifest"}, "slice-1")
    assert own.manifest() == b"{}"
    own.remove()
    assert files.find("bucket") == []
