"""Numbered lines of a file that may be gzipped."""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from worker.errors import Refused

_GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, section 2.3.1


class Line(NamedTuple):
    """`number` counts from 1, `position` is how much of the file (as it lies on disk) was read so far, in bytes."""

    number: int
    content: bytes
    position: int


class UnreadableFile(Refused):
    """The file cannot be read further."""

    code = "unreadable_file"

    def __init__(self, message: str | None = None, line: int = 1) -> None:
        super().__init__(message, line=line)
        self.line = line


def read_lines(path: Path, max_bytes: int) -> Iterator[Line]:
    """The lines that are not blank. One longer than `max_bytes` is given cut off, still longer than that.

    Raises UnreadableFile with the line at which reading broke; the lines before were given.
    """
    number = 0
    try:
        with path.open("rb") as raw:
            file = _unpacked(raw)
            for number, line in enumerate(_split(file, max_bytes), start=1):
                content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                if content.strip():
                    yield Line(number, content, raw.tell() if raw.seekable() else 0)
    except EOFError:
        raise UnreadableFile("the gzipped file is cut off here", number + 1) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableFile(f"the gzipped file is damaged: {error}", number + 1) from error
    except OSError as error:
        raise UnreadableFile(f"the file cannot be read: {error.strerror}", number + 1) from error


def size_of(path: Path) -> int:
    """In bytes on disk; 0 if that is not known, as of a pipe."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _unpacked(raw: io.BufferedReader) -> io.BufferedIOBase:
    if raw.peek(2)[:2] == _GZIP_MAGIC:
        # Read as it is: a buffer around it would lose the lines just before a fault.
        return gzip.GzipFile(fileobj=raw)
    return raw


def _split(file: io.BufferedIOBase, max_bytes: int) -> Iterator[bytes]:
    while line := file.readline(max_bytes + 1):
        yield line
        while len(line) > max_bytes and not line.endswith(b"\n"):
            line = file.readline(max_bytes + 1)
