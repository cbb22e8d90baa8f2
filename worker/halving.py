"""Many at once, and where that fails in halves, so that the one at fault stands alone and holds up no other."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from worker.connections import Connections
from worker.errors import SnapshotError, StoreUnavailable, TransientError, Unexpected
from worker.log import get_logger

log = get_logger(__name__)

Item = TypeVar("Item")


def in_halves(
    accept: Callable[[Sequence[Item]], Sequence[Any]], items: Sequence[Item], connections: Connections
) -> list[Any]:
    """What `accept` gives for each item, or its fault. Raises StoreUnavailable where MongoDB does not answer."""
    if not items:
        return []
    try:
        return list(accept(items))
    except TransientError as error:
        if not connections.store_answers():
            raise StoreUnavailable from error
        fault: SnapshotError = error
    except Exception as error:
        # The boundary: an item that breaks our own code must not hold up those beside it.
        log.exception("accept_broken", items=len(items))
        fault = Unexpected(f"Unexpected {type(error).__name__}.")
    if len(items) == 1:
        return [fault]
    middle = len(items) // 2
    return in_halves(accept, items[:middle], connections) + in_halves(accept, items[middle:], connections)
