"""Retention periods of snapshots, by quality: `400d` for all, `good=1000d` for those of one quality."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

_TIME = re.compile(r"(\d{1,9})([hd])", re.ASCII)
_UNITS = {"h": "hours", "d": "days"}
_LONGEST = timedelta(days=36_500)
_MAX_TIMES = 100


@dataclass(frozen=True, slots=True)
class KeepFor:
    """How long an organization keeps its snapshots. The general period applies to qualities without their own."""

    general: timedelta | None
    """The period for all other snapshots. None keeps them forever."""
    by_quality: Mapping[str, timedelta]

    @classmethod
    def read(cls, values: Sequence[str]) -> Self:
        """Parse the retention periods of an organization's policy.

        Args:
            values: At most one period for all snapshots, such as `400d`, and one for each quality, such as
                `good=1000d`. The unit is days (`d`) or hours (`h`).

        Raises:
            ValueError: A period or quality is missing, repeated, or outside 1h to 36500d. The message says what is
                allowed.

        Example:
            KeepFor.read(["400d", "good=1000d"]).general  # timedelta(days=400)
        """
        if len(values) > _MAX_TIMES:
            raise ValueError(f"should have at most {_MAX_TIMES} values, but has {len(values)}")
        times: dict[str | None, timedelta] = {}
        for value in values:
            before, equals, time = value.rpartition("=")
            quality = before.strip() if equals else None
            if quality == "":
                raise ValueError("should name a quality before the equals sign, as in good=400d")
            if quality in times:
                raise ValueError(f"should have one period for {repr(quality[:40]) if quality else 'all qualities'}")
            times[quality] = _read_time(time)
        general = times.pop(None, None)
        return cls(general, {quality: time for quality, time in times.items() if quality is not None})

    def expired(self, now: datetime) -> dict[str, Any] | None:
        """Return the MongoDB filter for the snapshots that are too old, or None if all are kept forever.

        `now`: aware, by MongoDB's clock. The filter lacks the organization, which the caller adds.
        """
        each: list[dict[str, Any]] = [
            {"quality": quality, "createdAt": {"$lt": now - time}} for quality, time in self.by_quality.items()
        ]
        if self.general is not None:
            others = {"$nin": list(self.by_quality)}
            each.append({"quality": others, "createdAt": {"$lt": now - self.general}})
        if not each:
            return None
        # One range that covers all of them, so that the index on `createdAt` serves the filter.
        return {"createdAt": {"$lt": max(one["createdAt"]["$lt"] for one in each)}, "$or": each}


def _read_time(text: str) -> timedelta:
    found = _TIME.fullmatch(text.strip())
    time = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta(0)
    if not timedelta(0) < time <= _LONGEST:
        raise ValueError(
            "should be a period in days or hours, from 1h to 36500d, such as 400d, or good=400d for one quality; "
            f"got {text[:40]!r}"
        )
    return time


def check_keep_for(values: list[str]) -> list[str]:
    """Return the values as they are stored. Raises ValueError, which says what is allowed."""
    KeepFor.read(values)
    return ["=".join(part.strip() for part in value.rpartition("=")[::2] if part) for value in values]
