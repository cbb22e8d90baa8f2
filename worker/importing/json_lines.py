"""Reads the numbered lines of a file that may be gzipped."""

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
    """A line. `number` starts at 1. `position`: how many bytes of the file on disk were read so far."""

    number: int
    content: bytes
    position: int


class UnreadableFile(Refused):
    """The file cannot be read any further."""

    code = "unreadable_file"

    def __init__(self, message: str | None = None, line: int = 1) -> None:
        super().__init__(message, line=line)
        self.line = line


def read_lines(path: Path, max_bytes: int) -> Iterator[Line]:
    """Yield the lines that are not blank. A longer line is truncated to `max_bytes` + 1 bytes, so that it is too long.

    Raises UnreadableFile with the number of the line that cannot be read, after yielding the lines before it.
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
        raise UnreadableFile("the gzipped file is truncated here", number + 1) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableFile(f"the gzipped file is damaged: {error}", number + 1) from error
    except OSError as error:
        raise UnreadableFile(f"the file cannot be read: {error.strerror}", number + 1) from error


def size_of(path: Path) -> int:
    """Return the size in bytes on disk, or 0 if it is unknown, as for a pipe."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _unpacked(raw: io.BufferedReader) -> io.BufferedIOBase:
    if raw.peek(2)[:2] == _GZIP_MAGIC:
        # Unbuffered: a buffer would lose the lines just before the damage.
        return gzip.GzipFile(fileobj=raw)
    return raw


def _split(file: io.BufferedIOBase, max_bytes: int) -> Iterator[bytes]:
    while line := file.readline(max_bytes + 1):
        yield line
        while len(line) > max_bytes and not line.endswith(b"\n"):
            line = file.readline(max_bytes + 1)
