"""Stores the log of erasures in a file, or in a bucket with one small object for each entry."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import urlsplit

from worker.errors import InvalidSettings
from worker.exports.bucket import bucket_errors, open_s3
from worker.exports.destination import DestinationFailed
from worker.settings import PREFIX, Settings
from worker.startup.files import fault_of

VARIABLE = f"{PREFIX}ERASURE_LOG"


class LogPlace(Protocol):
    """A place that stores the entries of the log. All methods raise InvalidSettings and DestinationUnavailable."""

    def check(self) -> None:
        """Check that entries can be added, as far as this can be told without adding one."""

    def append(self, name: str, entry: bytes) -> None:
        """Add an entry durably. `name` is unique, and entries are sorted by it."""

    def entries(self) -> list[bytes]:
        """Return all entries in order."""


def open_log(settings: Settings) -> LogPlace | None:
    """Return the log that SNAPSHOTS_ERASURE_LOG names, or None if it is not set. Raises InvalidSettings."""
    url = settings.erasure_log
    if url is None:
        return None
    if "://" not in url:
        return LogFile(Path(url))
    return LogFile(Path(urlsplit(url).path)) if url.startswith("file://") else LogBucket(url)


class LogFile:
    """A file with a line for each entry. A line that a crash has truncated is returned too, although it is not JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        if fault := fault_of(self._path):
            raise InvalidSettings(f"{VARIABLE}: {fault}.")

    def append(self, name: str, entry: bytes) -> None:
        try:
            with self._path.open("a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(_line_break(file) + entry + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InvalidSettings(f"{VARIABLE}: {self._path} cannot be written ({error.strerror}).") from None

    def entries(self) -> list[bytes]:
        try:
            if not self._path.exists():
                self._path.parent.stat()  # a log that is not begun yet is empty; one whose folder is missing is wrong
                return []
            return self._path.read_bytes().splitlines()
        except OSError as error:
            raise InvalidSettings(f"{VARIABLE}: {self._path} cannot be read ({error.strerror}).") from None


def _line_break(file: IO[bytes]) -> bytes:
    """Return the line break that ends a line which a crash or a full disk has truncated, or nothing."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 1, 0))
    return b"" if file.read(1) in {b"", b"\n"} else b"\n"


class LogBucket:
    """A prefix in a bucket. Objects cannot be appended to, so each entry is an object."""

    def __init__(self, url: str) -> None:
        """`url`: `s3://bucket/prefix`. Raises InvalidSettings."""
        bucket, _, prefix = url.removeprefix("s3://").rstrip("/").partition("/")
        if not url.startswith("s3://") or not bucket or not prefix:
            raise InvalidSettings(f"{VARIABLE} should be a file, or s3://bucket/prefix.")
        self._files: Any = open_s3(VARIABLE)
        self._where, self._bucket, self._prefix = url, bucket, f"{prefix}/"

    def check(self) -> None:
        with self._errors():
            self._list_one()

    def append(self, name: str, entry: bytes) -> None:
        with self._errors():
            self._files.pipe_file(f"{self._bucket}/{self._prefix}{name}.json", entry)

    def entries(self) -> list[bytes]:
        with self._errors():
            self._list_one()  # `find` alone takes a bucket that does not exist for an empty one
            paths = sorted(self._files.find(f"{self._bucket}/{self._prefix}"))
            found = self._files.cat(paths) if paths else {}
            return [found[path] for path in paths]

    def _list_one(self) -> None:
        self._files.call_s3("list_objects_v2", Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with bucket_errors(self._where):
                yield
        except DestinationFailed as error:
            raise InvalidSettings(f"{VARIABLE}: {error.message}") from None
