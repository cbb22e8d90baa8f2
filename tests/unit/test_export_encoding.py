"""The encoders of data files."""

import io

from pyarrow import parquet

from support.snapshots import snapshot
from worker.exports.encoding import Hashed, encoder_of
from worker.formats import FORMATS, Options


def test_parquet_with_long_texts_keeps_few_rows_in_memory() -> None:
    out = io.BytesIO()
    encoder = encoder_of(FORMATS["parquet"], Options(), Hashed(out), None)
    for _ in range(30):
        assert encoder.add(snapshot(("contact", "Hi" * 500_000), ("user", "Hello"))) == 1
    encoder.close()
    file = parquet.ParquetFile(io.BytesIO(out.getvalue()))
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (30, 4)
