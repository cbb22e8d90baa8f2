"""Whole snapshots, one on each line, in the JSON of the HTTP API: ids are hex digits, dates ISO 8601."""

from collections.abc import Mapping
from typing import Any

from worker.domain.json_values import JsonEncoder, render
from worker.formats.base import Format
from worker.formats.columns import as_json
from worker.formats.dataset import Options
from worker.formats.rows import Row, line_of
from worker.formats.snapshot_fields import MESSAGE, SNAPSHOT

_encode = JsonEncoder(ensure_ascii=False, separators=(",", ":"))
_CERTAIN = ("_id", "organizationId", "messages")


class Jsonl(Format):
    """The format `jsonl`: a row is the whole snapshot. Only text that is not valid Unicode makes it skip one."""

    name = "jsonl"
    purpose = "whole snapshots, for any program"

    def columns(self, options: Options) -> dict[str, Any]:
        """Return the documented fields; dates are text. A platform may have added others to its snapshots."""
        fields = SNAPSHOT | {"messages": [MESSAGE]}
        return as_json(fields)

    def certain_columns(self, options: Options) -> dict[str, Any]:
        """Return the columns that every snapshot has."""
        return {name: kind for name, kind in self.columns(options).items() if name in _CERTAIN}

    def rows(self, snapshot: Mapping[str, Any], options: Options) -> list[Row]:
        """Return one row: the snapshot's fields in their stored order."""
        return [render(snapshot)]

    def lines(self, snapshot: Mapping[str, Any], options: Options) -> list[bytes]:
        """Return the row as an encoded line, directly from the snapshot: faster than building the row first."""
        return [line_of(_encode(snapshot))]


FORMAT = Jsonl()
