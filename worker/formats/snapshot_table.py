"""Builds Arrow tables of whole snapshots, column by column.

A list of all texts of a column is checked and converted in much less time than a dictionary for each message.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from worker.formats.columns import fit, to_arrow
from worker.formats.rows import Row, check_text
from worker.formats.snapshot_fields import MESSAGE, SNAPSHOT
from worker.formats.turns import messages_of

_NAMES, _KINDS = list(MESSAGE), list(MESSAGE.values())
_TYPES = [datetime if kind == "timestamp" else str for kind in _KINDS]
COLUMNS: dict[str, Any] = SNAPSHOT | {"messages": [{"role": "string"} | MESSAGE]}
"""The columns of the table, in the notation of `worker.formats.columns`."""


class SnapshotTable:
    """Collects whole snapshots, one in each row, for a row group of a Parquet file. All of it is in memory."""

    _MAX_ROWS, _MAX_TEXT, _MAX_MESSAGES = 1000, 8_000_000, 500_000
    """Maximum rows, and about the maximum characters and number of their messages."""

    def __init__(self) -> None:
        self.schema = to_arrow(COLUMNS)
        self._clear()

    def _clear(self) -> None:
        self._rows: list[Row] = []
        self._messages: list[list[Any]] = [[] for _ in COLUMNS["messages"][0]]
        self._offsets = [0]
        self._text = 0

    @property
    def is_full(self) -> bool:
        """Whether the row group should be written before more snapshots are added."""
        messages = self._offsets[-1]
        return len(self._rows) >= self._MAX_ROWS or self._text >= self._MAX_TEXT or messages >= self._MAX_MESSAGES

    def add(self, snapshot: Mapping[str, Any]) -> int:
        """Add a snapshot; return 1, the number of its rows. Raises NotRepresentable, in which case nothing is added."""
        row, columns = fields_of(snapshot), message_columns(snapshot)
        self._rows.append(row)
        for column, values in zip(self._messages, columns, strict=True):
            column.extend(values)
        self._offsets.append(len(self._messages[0]))
        contents = columns[1 + _NAMES.index("content")]
        self._text += sum(len(each) for each in contents if each)
        return 1

    def take(self) -> Any:
        """Return the snapshots as a `pyarrow.Table`, or None if there are none, and forget them."""
        import pyarrow as pa

        if not self._rows:
            return None
        messages = self.schema.field("messages")
        kinds = list(messages.type.value_type)
        arrays = [pa.array(values, kind.type) for values, kind in zip(self._messages, kinds, strict=True)]
        structs = pa.StructArray.from_arrays(arrays, fields=kinds)
        lists = pa.ListArray.from_arrays(pa.array(self._offsets, pa.int32()), structs, type=messages.type)
        others = pa.schema([each for each in self.schema if each.name != "messages"])
        table = pa.Table.from_pylist(self._rows, schema=others).append_column(messages, lists)
        self._clear()
        return table


def fields_of(snapshot: Mapping[str, Any]) -> Row:
    """Return the values of all columns except `messages`.

    Raises NotRepresentable as `worker.formats.columns.fit` does.
    """
    return {name: fit(name, snapshot.get(name), kind) for name, kind in SNAPSHOT.items()}


def message_columns(snapshot: Mapping[str, Any]) -> list[list[Any]]:
    """Return the messages as one list for each column: the role, and the fields of MESSAGE in their order.

    Raises NotRepresentable: `malformed_messages`, or as `worker.formats.columns.fit` does.
    """
    messages = messages_of(snapshot)
    columns = _regular(messages)
    if columns is None:
        fields = [(name, f"messages.{name}", kind) for name, kind in MESSAGE.items()]
        fitted = [[fit(path, each.get(name), kind) for name, path, kind in fields] for each in messages]
        columns = [list(values) for values in zip(*fitted, strict=True)]
    roles = ["assistant" if each.get("sender") == "user" else "user" for each in messages]
    return [roles, *columns]


def _regular(messages: list[Mapping[str, Any]]) -> list[list[Any]] | None:
    """Return the columns of messages that have just the fields and types of MESSAGE, as most have, or None.

    Raises NotRepresentable as `invalid_text`.
    """
    count = len(messages)
    values = [value for each in messages for value in each.values()]
    if [name for each in messages for name in each] != _NAMES * count or list(map(type, values)) != _TYPES * count:
        return None
    columns = [values[place :: len(_NAMES)] for place in range(len(_NAMES))]
    for column, kind in zip(columns, _KINDS, strict=True):
        if kind == "string":
            check_text("".join(column))
        elif any(each.tzinfo for each in column):
            return None
    return columns
