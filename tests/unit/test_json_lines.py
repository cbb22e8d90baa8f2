"""Numbered lines of plain and gzipped files."""

import gzip
import os
import random
from pathlib import Path

import pytest

from worker.importing.json_lines import UnreadableFile, read_lines

LIMIT = 1000


def numbered(path: Path) -> list[tuple[int, bytes]]:
    return [(each.number, each.content.strip()) for each in read_lines(path, LIMIT)]


def read_until_error(path: Path) -> tuple[list[bytes], UnreadableFile]:
    read: list[bytes] = []
    with pytest.raises(UnreadableFile) as caught:
        read.extend(each.content for each in read_lines(path, LIMIT))
    return read, caught.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "conversations"


def test_gzip_is_recognized_by_content_not_by_name(path: Path) -> None:
    for content in (b"a\nb\n", gzip.compress(b"a\nb\n"), gzip.compress(b"a\n") + gzip.compress(b"b\n")):
        path.write_bytes(content)
        assert numbered(path) == [(1, b"a"), (2, b"b")]


def test_blank_lines_are_counted_and_skipped(path: Path) -> None:
    path.write_bytes(b"\n a\r\n\t\r\n\nb")
    assert numbered(path) == [(2, b"a"), (5, b"b")]


def test_only_newlines_end_a_line(path: Path) -> None:
    path.write_bytes("a\u2028b\u0085c\x0bd\re\n".encode())
    assert len(numbered(path)) == 1


def test_a_byte_order_mark_is_removed(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n")
    assert numbered(path) == [(1, b"a"), (2, b"\xef\xbb\xbfb")]


@pytest.mark.parametrize("content", [b"", b"\n", b"\x1f", gzip.compress(b"", mtime=0)])
def test_almost_empty_files_are_read(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert len(numbered(path)) <= 1


def test_the_position_ends_at_the_size_of_the_file(path: Path) -> None:
    for content in (b"a\n" * 9000, gzip.compress(b"a\n" * 9000)):
        path.write_bytes(content)
        positions = [each.position for each in read_lines(path, LIMIT)]
        assert positions == sorted(positions)
        assert positions[-1] == len(content)


def test_a_line_over_the_limit_is_truncated_and_later_lines_are_complete(path: Path) -> None:
    path.write_bytes(b"x" * (5 * LIMIT) + b"\nb\n" + b"y" * (LIMIT + 1))
    assert [(number, len(content)) for number, content in numbered(path)] == [(1, LIMIT + 1), (2, 1), (3, LIMIT + 1)]


def test_a_truncated_gzip_file_is_read_up_to_the_end(path: Path) -> None:
    lines = [b"%06d %s\n" % (number, random.Random(number).randbytes(30).hex().encode()) for number in range(5000)]
    packed = gzip.compress(b"".join(lines))
    path.write_bytes(packed[: len(packed) // 2])
    read, error = read_until_error(path)
    assert 1000 < len(read) < 4000
    assert read == lines[: len(read)]
    assert error.line == len(read) + 1
    assert error.message == "the gzipped file is truncated here"


def test_a_gzip_file_without_its_trailer_still_yields_all_lines(path: Path) -> None:
    path.write_bytes(gzip.compress(b"a\nb\n")[:-8])
    read, error = read_until_error(path)
    assert (read, error.line) == ([b"a\n", b"b\n"], 3)


def test_a_damaged_gzip_file_is_reported_as_damaged(path: Path) -> None:
    packed = bytearray(gzip.compress(b"a\nb\n"))
    packed[-5] ^= 0xFF
    path.write_bytes(packed)
    read, error = read_until_error(path)
    assert (read, error.line) == ([b"a\n", b"b\n"], 3)
    assert error.message.startswith("the gzipped file is damaged: CRC check failed")


def test_a_missing_file_is_an_error_on_its_first_line(path: Path) -> None:
    read, error = read_until_error(path)
    assert (read, error.line) == ([], 1)
    assert error.message == "the file cannot be read: No such file or directory"


def test_a_pipe_can_be_read(path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, gzip.compress(b"a\nb\n"))
    os.close(writing)
    try:
        assert numbered(Path(f"/dev/fd/{reading}")) == [(1, b"a"), (2, b"b")]
    finally:
        os.close(reading)
