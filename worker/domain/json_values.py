"""Documents as JSON: what every surface shows of a snapshot or a ledger entry. Pure.

ObjectIds are 24 hex digits, dates `2026-05-18T14:30:00.000Z` (DESIGN section 5).
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import DatetimeMS

from worker.clock import to_json

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CYCLE_YEARS = 400
_CYCLE_MS = 146_097 * 86_400_000
"""The Gregorian calendar repeats after 400 years, which are so many days."""
_FARTHEST_MS = 8_640_000_000_000_000
"""JavaScript's Date knows no moment farther from 1970. https://tc39.es/ecma262/#sec-time-values-and-time-range"""


def render(value: Any) -> Any:
    """What JSON can hold of a BSON value: objects, arrays, strings, numbers, booleans, null.

    A number that JSON does not know (NaN, infinity) is null, as in JavaScript; a rare type is its text.
    """
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(name): render(each) for name, each in value.items()}
        case list() | tuple():
            return [render(each) for each in value]
        case _:
            return _as_text(value)


def _as_text(value: Any) -> str | None:
    match value:
        case datetime():
            return to_json(value)
        case DatetimeMS():
            return _far_date(int(value))
        case bytes():
            return value.hex()
        case _:
            return str(value)  # an ObjectId's is its hex digits


def _far_date(milliseconds: int) -> str | None:
    """A date that may lie outside Python's years 1 to 9999, as JavaScript's `toJSON` has it."""
    if abs(milliseconds) > _FARTHEST_MS:
        return None
    cycles, rest = divmod(milliseconds, _CYCLE_MS)
    moment = _EPOCH + timedelta(milliseconds=rest)
    year = moment.year + cycles * _CYCLE_YEARS
    written = f"{year:04}" if 0 <= year <= 9999 else f"{year:+07}"
    return f"{written}-{moment:%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
