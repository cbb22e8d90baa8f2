"""Processes items together and, where that fails, in halves, so that one faulty item does not hold up the others."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import pymongo

from worker.errors import DeadlineExceeded, StoreUnavailable, TaskInterrupt, TransientError, UnexpectedError
from worker.log import get_logger
from worker.stores.connections import Connections

log = get_logger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


def bisect(
    process: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], connections: Connections
) -> list[Result | TransientError]:
    """Return, in order, the result of `process` for each item, or the error with which the item failed.

    An item that fails even alone gets its own error, which is UnexpectedError if our code has a bug. Several items
    together get two thirds of the time that is left, so that one that MongoDB is slow with can be found. After the run
    deadline nothing is split any further, and the remaining items get DeadlineExceeded. Raises StoreUnavailable if
    MongoDB does not answer, and TaskInterrupt exceptions as they are.
    """
    deadline = connections.settings.run_deadline.total_seconds()
    stop_at = time.monotonic() + deadline

    def split(part: Sequence[Item]) -> list[Result | TransientError]:
        if not part:
            return []
        try:
            if len(part) == 1:
                return list(process(part))
            with pymongo.timeout(max(deadline / 5, (stop_at - time.monotonic()) * 2 / 3)):
                return list(process(part))
        except TransientError as error:
            if not connections.store_answers():
                raise StoreUnavailable from error
            fault = error
        except Exception as error:
            # An item that breaks our own code must not hold up the others.
            if isinstance(error, TaskInterrupt):
                raise
            log.exception("accept_failed", items=len(part))
            fault = UnexpectedError(f"Unexpected {type(error).__name__}.")
        if len(part) == 1:
            return [fault]
        if time.monotonic() >= stop_at:
            return [DeadlineExceeded()] * len(part)
        middle = len(part) // 2
        return split(part[:middle]) + split(part[middle:])

    return split(items)
