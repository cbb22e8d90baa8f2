"""The encoders of data files."""

import errno
import io
import time
from collections.abc import Callable
from typing import Any

import pytest
from pyarrow import parquet

from support.snapshots import snapshot
from support.waiting import eventually
from worker.exports.encoding import Hashed, encoder_of
from worker.formats import FORMATS, Options


def test_parquet_with_long_texts_keeps_few_rows_in_memory() -> None:
    out = io.BytesIO()
    with encoder_of(FORMATS["parquet"], Options(), Hashed(out), None) as encoder:
        for _ in range(30):
            assert encoder.add(snapshot(("contact", "Hi" * 500_000), ("user", "Hello"))) == 1
    file = parquet.ParquetFile(io.BytesIO(out.getvalue()))
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (30, 4)


def write_two_row_groups(out: io.BytesIO, then: Callable[[], None] = lambda: None) -> None:
    with encoder_of(FORMATS["parquet"], Options(), Hashed(out), None) as encoder:
        for _ in range(16):
            encoder.add(snapshot(("contact", "Hi" * 500_000), ("user", "Hello")))
        then()


class Full(io.BytesIO):
    """A file on a disk that is full after the first bytes."""

    def write(self, data: Any) -> int:
        if self.tell():
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


class Slow(io.BytesIO):
    """A slow file. `in_use`: whether something is being written."""

    in_use = False

    def write(self, data: Any) -> int:
        self.in_use = True
        time.sleep(0.01)
        written = super().write(data)
        self.in_use = False
        return written


def test_error_of_the_thread_that_writes_a_row_group_ends_the_export() -> None:
    with pytest.raises(OSError, match="No space left"):
        write_two_row_groups(Full())


def test_error_elsewhere_waits_for_the_row_group_that_is_being_written() -> None:
    out = Slow()

    def fail() -> None:
        eventually(lambda: out.in_use)
        raise KeyError

    with pytest.raises(KeyError):
        write_two_row_groups(out, fail)
    assert not out.in_use
