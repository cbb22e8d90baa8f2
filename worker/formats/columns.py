"""Describes the columns of a format, for Arrow and for the dataset card. Pure.

A column is `string`, `int64`, `bool` or `timestamp` (milliseconds, UTC); a list with the type of its items; or a
mapping of the fields of an object. Every value may be null.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bson import DatetimeMS, ObjectId
from bson.errors import InvalidBSON

from worker.formats.rows import NotRepresentable, check_text

Columns = Mapping[str, Any]

_TIMESTAMP = "timestamp[ms, tz=UTC]"
_ARROW = {"bool": "bool_"}
_MAX = 2**63
"""Beyond the numbers of `int64`."""
_KINDS: dict[str, type | tuple[type, ...]] = {"string": (str, ObjectId), "int64": int, "bool": bool}


def to_features(columns: Columns) -> list[dict[str, Any]]:
    """Return the columns as `dataset_info.features` of a dataset card.

    https://huggingface.co/docs/datasets/about_dataset_features
    """
    return [{"name": name, **_feature(kind)} for name, kind in columns.items()]


def _feature(kind: Any) -> dict[str, Any]:
    match kind:
        case str():
            return {"dtype": _TIMESTAMP if kind == "timestamp" else kind}
        case [str(item)]:
            return {"list": item}
        case [item]:
            return {"list": to_features(item)}
        case _:
            return {"struct": to_features(kind)}


def to_arrow(columns: Columns) -> Any:
    """Return the columns as a `pyarrow.Schema`."""
    import pyarrow as pa

    def arrow(kind: Any) -> Any:
        match kind:
            case str():
                return pa.timestamp("ms", tz="UTC") if kind == "timestamp" else getattr(pa, _ARROW.get(kind, kind))()
            case [item]:
                return pa.list_(arrow(item))
            case _:
                return pa.struct([pa.field(name, arrow(each)) for name, each in kind.items()])

    return pa.schema([pa.field(name, arrow(each)) for name, each in columns.items()])


def as_json(columns: Columns) -> dict[str, Any]:
    """Return the columns for rows in JSON, in which a timestamp is text."""

    def plain(kind: Any) -> Any:
        match kind:
            case str():
                return "string" if kind == "timestamp" else kind
            case [item]:
                return [plain(item)]
            case _:
                return as_json(kind)

    return {name: plain(kind) for name, kind in columns.items()}


def fit(name: str, value: Any, kind: Any) -> Any:
    """Return the value of a snapshot's field, converted to the type of its column.

    A timestamp is a `datetime` in UTC without a time zone, which Arrow converts twice as fast as one with a time zone.

    `name`: the field, for the error. `kind`: the type, in the notation of this module. Null fits every column. Raises
    NotRepresentable as `malformed_snapshot`, `date_out_of_range` or `invalid_text`.
    """
    if value is None or (kind == "string" and type(value) is str and value.isascii()):  # most values, so first
        return value
    if isinstance(kind, list):
        if not isinstance(value, list):
            raise _malformed(name, "an array")
        return [fit(name, each, kind[0]) for each in value]
    if isinstance(kind, Mapping):
        if not isinstance(value, Mapping):
            raise _malformed(name, "an object")
        return {field: fit(f"{name}.{field}", value.get(field), each) for field, each in kind.items()}
    if kind == "timestamp":
        return _date(name, value)
    if not isinstance(value, _KINDS[kind]):
        raise _malformed(name, f"of type {kind}")
    if isinstance(value, int) and kind == "int64" and (isinstance(value, bool) or not -_MAX <= value < _MAX):
        raise _malformed(name, f"of type {kind}")
    if kind == "string":
        value = str(value)
        check_text(value)
    return value


def _date(name: str, value: Any) -> datetime:
    if isinstance(value, DatetimeMS):
        try:
            value = value.as_datetime()
        except InvalidBSON as error:
            raise NotRepresentable("date_out_of_range", f"`{name}` is not in the years 1 to 9999.") from error
    if not isinstance(value, datetime):
        raise _malformed(name, "a date")
    return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)


def _malformed(name: str, expected: str) -> NotRepresentable:
    return NotRepresentable("malformed_snapshot", f"`{name}` of the snapshot is not {expected}.")
