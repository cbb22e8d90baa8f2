"""Whole snapshots as Parquet, in the layout of a dataset of the Hugging Face Hub.

`data/{split}-00000-of-0000N.parquet` and a `README.md` that names the files and their columns.
https://huggingface.co/docs/hub/datasets-manual-configuration
The columns are the snapshot's fields, with Arrow types. Each message has a `role` as well, so that TRL can train with
the column `messages`.
"""

from collections.abc import Mapping
from typing import Any

from worker.formats.base import Format
from worker.formats.dataset import Options
from worker.formats.rows import Row
from worker.formats.snapshot_table import COLUMNS, SnapshotTable, fields_of, message_columns


class Parquet(Format):
    """The format `parquet`: a row has all documented fields of the snapshot. Other fields have no column."""

    name = "parquet"
    version = 2
    suffix = "parquet"
    purpose = "Hugging Face `datasets`, pandas, DuckDB and other readers of Parquet"

    def columns(self, options: Options) -> dict[str, Any]:
        """Return the columns of the rows."""
        return COLUMNS

    def certain_columns(self, options: Options) -> dict[str, Any]:
        """Return the columns without objects of objects, which Croissant's readers do not read."""
        return {name: kind for name, kind in COLUMNS.items() if not isinstance(kind, Mapping)}

    def rows(self, snapshot: Mapping[str, Any], options: Options) -> list[Row]:
        """Return one row, whose dates are `datetime`s in UTC without a time zone.

        Raises NotRepresentable as `malformed_snapshot` if a field has another type than docs/data.md gives it.
        """
        row = fields_of(snapshot)
        names = COLUMNS["messages"][0]
        row["messages"] = [
            dict(zip(names, values, strict=True)) for values in zip(*message_columns(snapshot), strict=True)
        ]
        return [row]

    def path(self, split: str, index: int, count: int) -> str:
        """Return the path of a data file in the Hub's layout."""
        return f"data/{split}-{index:05}-of-{count:05}.parquet"

    def table(self) -> SnapshotTable:
        """Return a new, empty table for collecting rows. Raises ModuleNotFoundError if pyarrow is missing."""
        return SnapshotTable()


FORMAT = Parquet()
