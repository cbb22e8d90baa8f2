"""Encodes rows as JSON Lines, compressed or not, or as Parquet. The bytes depend only on the rows."""

import hashlib
import io
import zlib
from collections.abc import Mapping
from typing import IO, Any, Protocol

from worker.errors import InvalidSettings
from worker.formats.base import Format
from worker.formats.dataset import Options

SUFFIXES = {"gzip": ".gz", "zstd": ".zst"}
_EXTRA = "needs the extra exports: pip install 'training-snapshots[exports]'"
_BLOCK_BYTES = 1 << 20
"""How many bytes are hashed, compressed and written at once."""


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class Hashed:
    """A binary file that is only written. Counts and hashes the written bytes."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.bytes = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was written so far, in hex."""
        return self._hash.hexdigest()

    def write(self, data: Any) -> int:
        """Write and hash bytes; return how many."""
        self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)
        return len(data)

    def tell(self) -> int:
        """Return the number of bytes written so far, which pyarrow asks for."""
        return self.bytes

    def flush(self) -> None:
        """Do nothing: the destination flushes the file at the end."""


class Encoder(Protocol):
    """Writes rows to one data file, as JSON Lines or Parquet. Call `close` at the end."""

    def add(self, snapshot: Mapping[str, Any]) -> int:
        """Add the rows of one snapshot, all or none; return how many. Raises NotRepresentable."""

    def close(self) -> None:
        """Write the remaining rows and close the encoder."""


def encoder_of(form: Format, options: Options, out: Hashed, compress: str | None) -> Encoder:
    """Return the encoder of a format. Raises InvalidSettings if a package is missing."""
    if form.suffix == "parquet":
        return _Parquet(form, out)
    return _Lines(form, options, out, compress)


class _Lines:
    def __init__(self, form: Format, options: Options, out: Hashed, compress: str | None) -> None:
        self._form = form
        self._options = options
        self._out = out
        self._compressor = _compressor(compress)
        self._block: list[bytes] = []
        self._bytes = 0

    def add(self, snapshot: Mapping[str, Any]) -> int:
        lines = self._form.lines(snapshot, self._options)
        self._block += lines
        self._bytes += sum(map(len, lines))
        if self._bytes >= _BLOCK_BYTES:
            self._write()
        return len(lines)

    def _write(self) -> None:
        data = b"".join(self._block)
        self._out.write(self._compressor.compress(data) if self._compressor else data)
        self._block, self._bytes = [], 0

    def close(self) -> None:
        self._write()
        if self._compressor:
            self._out.write(self._compressor.flush())


def _compressor(name: str | None) -> _Compressor | None:
    if name == "gzip":
        return zlib.compressobj(6, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # without a time and a name in its header
    if name == "zstd":
        try:
            import zstandard
        except ModuleNotFoundError:
            raise InvalidSettings(f"zstd {_EXTRA}") from None
        compressor: _Compressor = zstandard.ZstdCompressor(level=3).compressobj()
        return compressor
    return None


class _Parquet:
    def __init__(self, form: Format, out: Hashed) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ModuleNotFoundError:
            raise InvalidSettings(f"The format {form.name} {_EXTRA}") from None
        self._table = form.table()
        self._writer = parquet.ParquetWriter(pa.PythonFile(out, mode="w"), self._table.schema, compression="zstd")

    def add(self, snapshot: Mapping[str, Any]) -> int:
        rows = self._table.add(snapshot)
        if self._table.is_full:
            self._write()
        return rows

    def _write(self) -> None:
        if (rows := self._table.take()) is not None:
            self._writer.write_table(rows)

    def close(self) -> None:
        self._write()
        self._writer.close()


def check_packages(form: Format, compress: str | None) -> None:
    """Check that the packages for a format and a compression are installed. Raises InvalidSettings."""
    encoder_of(form, Options(), Hashed(io.BytesIO()), compress)
