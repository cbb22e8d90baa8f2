"""Many at once, and where that fails in halves, so that the one at fault stands alone and holds up no other."""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from worker.errors import DeadlineExceeded, SnapshotError, StoreUnavailable, TransientError, Unexpected
from worker.log import get_logger
from worker.stores.connections import Connections

log = get_logger(__name__)

Item = TypeVar("Item")


def in_halves(
    accept: Callable[[Sequence[Item]], Sequence[Any]], items: Sequence[Item], connections: Connections
) -> list[Any]:
    """What `accept` gives for each item, or its fault; DeadlineExceeded for those that the time did not reach.

    After the time of a run nothing is halved any more. Raises StoreUnavailable where MongoDB does not answer.
    """
    stop_at = time.monotonic() + connections.settings.run_deadline.total_seconds()

    def halved(some: Sequence[Item]) -> list[Any]:
        if not some:
            return []
        try:
            return list(accept(some))
        except TransientError as error:
            if not connections.store_answers():
                raise StoreUnavailable from error
            fault: SnapshotError = error
        except Exception as error:
            # The boundary: an item that breaks our own code must not hold up those beside it.
            log.exception("accept_broken", items=len(some))
            fault = Unexpected(f"Unexpected {type(error).__name__}.")
        if len(some) == 1:
            return [fault]
        if time.monotonic() >= stop_at:
            return [DeadlineExceeded()] * len(some)
        middle = len(some) // 2
        return halved(some[:middle]) + halved(some[middle:])

    return halved(items)
