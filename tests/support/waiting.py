"""Waiting for what happens elsewhere, without sleeping longer than needed."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")
_MAX_SECONDS = 90.0


def eventually(check: Callable[[], Result], timeout: float = 30.0, interval: float = 0.02) -> Result:
    """The first truthy result of `check`, which is asked again until `timeout` seconds have passed.

    An AssertionError within `check` means not yet. Raises AssertionError with the last one, or the last result. On a
    busy machine it waits for longer, but not beyond the time limit of a test.
    """
    deadline = time.monotonic() + max(timeout, min(allowed(timeout), _MAX_SECONDS))
    while True:
        try:
            result = check()
            if result:
                return result
            last: object = result
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {last!r}")
        time.sleep(interval)


def allowed(seconds: float) -> float:
    """A time limit: `seconds` on an idle machine, and longer in proportion to the load of the last minute."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
