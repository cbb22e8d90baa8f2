"""Converts BSON values to JSON, in the form that the API, the commands and the pages share. Pure.

ObjectIds become 24 hex digits, dates `2026-05-18T14:30:00.000Z`.
"""

import json
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from bson import DatetimeMS

from worker.clock import EPOCH, to_json

_CYCLE_YEARS = 400
_CYCLE_MS = 146_097 * 86_400_000
"""Length of 400 years, after which the Gregorian calendar repeats."""
_MAX_MS = 8_640_000_000_000_000
"""The limit of JavaScript's Date before and after 1970, in ms.
https://tc39.es/ecma262/#sec-time-values-and-time-range"""


def render(value: Any) -> Any:
    """Convert a BSON value to objects, arrays, strings, numbers, booleans and null.

    NaN and infinity become null, as in JavaScript; bytes become hex; other types become their text.

    Example:
        render({"_id": ObjectId("6a1b2c3d4e5f60718293a4b5")})  # {"_id": "6a1b2c3d4e5f60718293a4b5"}
    """
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(name): render(item) for name, item in value.items()}
        case list() | tuple():
            return [render(item) for item in value]
        case _:
            return _as_text(value)


class JsonEncoder:
    """Writes the JSON of `render`, three times as fast: only what JSON does not know is converted."""

    def __init__(self, **options: Any) -> None:
        """`options`: those of `json.JSONEncoder`."""
        encoder = json.JSONEncoder(allow_nan=False, check_circular=False, default=_as_text, **options)
        self._encode = encoder.encode

    def __call__(self, value: Any) -> str:
        """Return the JSON of a BSON value, whose mappings are dicts with names that are text."""
        try:
            return self._encode(value)
        except ValueError:  # NaN or infinity
            return self._encode(render(value))


def _as_text(value: Any) -> str | None:
    match value:
        case datetime():
            return value.isoformat("T", "milliseconds") + "Z" if value.tzinfo is None else to_json(value)
        case DatetimeMS():
            return _far_date(int(value))
        case bytes():
            return value.hex()
        case _:
            return str(value)  # an ObjectId's text is its hex digits


def _far_date(milliseconds: int) -> str | None:
    """Format a date as JavaScript does, also outside of Python's years 1 to 9999. None beyond JavaScript's limit."""
    if abs(milliseconds) > _MAX_MS:
        return None
    cycles, rest = divmod(milliseconds, _CYCLE_MS)
    moment = EPOCH + timedelta(milliseconds=rest)
    year = moment.year + cycles * _CYCLE_YEARS
    text = f"{year:04}" if 0 <= year <= 9999 else f"{year:+07}"
    return f"{text}-{moment:%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
