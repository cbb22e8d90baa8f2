"""Waiting for what happens elsewhere, without sleeping longer than needed."""

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def eventually(check: Callable[[], Result], timeout: float = 30.0, interval: float = 0.02) -> Result:
    """The first truthy result of `check`, which is asked again until `timeout` seconds have passed.

    An AssertionError within `check` means not yet. Raises AssertionError with the last one, or the last result.
    """
    deadline = time.monotonic() + timeout
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
