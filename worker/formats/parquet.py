"""Whole snapshots as Parquet, in the layout of a dataset of the Hugging Face Hub.

`data/{split}-00000-of-0000N.parquet` and a `README.md` that names the files and their columns.
https://huggingface.co/docs/hub/datasets-manual-configuration
The columns are the snapshot's fields, with Arrow types. Each message has a `role` as well, so that TRL can train with
the column `messages`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from worker.formats.base import Format
from worker.formats.columns import fit, to_arrow
from worker.formats.dataset import Options
from worker.formats.rows import Row, check_text
from worker.formats.snapshot_fields import MESSAGE, SNAPSHOT
from worker.formats.turns import messages_of

_MESSAGE = [(name, f"messages.{name}", kind) for name, kind in MESSAGE.items()]
_NAMES, _TYPES = list(MESSAGE), [datetime if kind == "timestamp" else str for kind in MESSAGE.values()]


class Parquet(Format):
    """The format `parquet`: a row has all documented fields of the snapshot. Other fields have no column."""

    name = "parquet"
    suffix = "parquet"
    purpose = "Hugging Face `datasets`, pandas, DuckDB and other readers of Parquet"

    def columns(self, options: Options) -> dict[str, Any]:
        """Return the columns of the rows."""
        return SNAPSHOT | {"messages": [{"role": "string"} | MESSAGE]}

    def rows(self, snapshot: Mapping[str, Any], options: Options) -> list[Row]:
        """Return one row, whose dates are `datetime`s in UTC without a time zone.

        Raises Skipped as `malformed_snapshot` if a field has another type than docs/data.md gives it.
        """
        row = {name: fit(name, snapshot.get(name), kind) for name, kind in SNAPSHOT.items()}
        row["messages"] = [_message(each) for each in messages_of(snapshot)]
        return [row]

    def path(self, split: str, index: int, count: int) -> str:
        """Return the path of a data file in the Hub's layout."""
        return f"data/{split}-{index:05}-of-{count:05}.parquet"

    def arrow_schema(self) -> Any:
        """Return the `pyarrow.Schema` of the rows."""
        return to_arrow(self.columns(Options()))


def _message(message: Mapping[str, Any]) -> Row:
    """Return a message with its role, as `fit` converts it. Most messages have just the fields and types of MESSAGE."""
    role = "assistant" if message.get("sender") == "user" else "user"
    values = list(message.values())
    if list(message) == _NAMES and list(map(type, values)) == _TYPES:
        check_text("".join(values[:-1]))
        return {"role": role, **message, "timestamp": fit("messages.timestamp", values[-1], "timestamp")}
    return {"role": role} | {name: fit(path, message.get(name), kind) for name, path, kind in _MESSAGE}


FORMAT = Parquet()
