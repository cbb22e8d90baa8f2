"""The list of requests, with counts if they can be made in time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import pymongo
from bson import ObjectId

from worker.domain.ledger_entry import COMPLETED, FAILED, LedgerEntry
from worker.errors import TransientError
from worker.operations.data.error_groups import ErrorGroups, count_by_code
from worker.stores.connections import Connections
from worker.stores.queries import RequestFilter, count_redrivable, list_requests

Result = TypeVar("Result")
_COUNT_SECONDS = 0.7
"""Time limit of each count in seconds. The list is shown even without the counts."""


@dataclass(frozen=True, slots=True)
class RequestList:
    """One page of the list. `groups` and `redrivable` are None if counting took too long."""

    entries: list[LedgerEntry]
    cursor: ObjectId | None
    """The cursor of the next page, or None on the last page."""
    groups: ErrorGroups | None
    redrivable: int | None


def read_request_list(
    connections: Connections, requests: RequestFilter, limit: int, after: ObjectId | None
) -> RequestList:
    """Read a page of up to `limit` requests. `after`: the cursor of the page, None for the first one.

    Raises StoreUnavailable, StoreConflict.
    """
    entries, cursor = list_requests(connections, requests, limit, after)
    groups: ErrorGroups | None = ErrorGroups([], True)
    if requests.status != COMPLETED and after is None:
        groups = _none_if_too_slow(lambda: count_by_code(connections, requests))
    redrivable: int | None = 0
    if requests.status == FAILED and entries:
        redrivable = _none_if_too_slow(lambda: count_redrivable(connections, requests))
    return RequestList(entries, cursor, groups, redrivable)


def _none_if_too_slow(count: Callable[[], Result]) -> Result | None:
    try:
        with pymongo.timeout(_COUNT_SECONDS):
            return count()
    except TransientError:
        return None
