"""Makes the wall clock of a process wrong: `time.time` and `datetime.now` differ from the machine's.

Only for the launcher, before anything else is imported, because modules keep the names that they import. The monotonic
clock is not changed, as on a machine whose clock is set wrongly.
"""

import datetime as dt
import time
from typing import Any

_real = dt.datetime
_time, _time_ns = time.time, time.time_ns


class _Kind(type(_real)):  # type: ignore[misc]
    """Makes real datetimes instances of the shifted class."""

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, _real)

    def __subclasscheck__(cls, kind: Any) -> bool:
        return issubclass(kind, _real)


def shift(seconds: float) -> None:
    """Sets this process's clock ahead by `seconds`."""
    apart = dt.timedelta(seconds=seconds)

    class Shifted(_real, metaclass=_Kind):
        """A datetime class with a wrong clock."""

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return _real(*args, **kwargs)

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return _real.now(tz) + apart

        @classmethod
        def utcnow(cls) -> Any:
            return _real.now(dt.UTC).replace(tzinfo=None) + apart

    dt.datetime = Shifted  # type: ignore[misc]
    time.time = lambda: _time() + seconds
    time.time_ns = lambda: _time_ns() + int(seconds * 1e9)
