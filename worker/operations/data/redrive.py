"""Redrives failed requests: counts them first, and then redrives no more than were counted."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from bson import ObjectId

from worker.service import Service
from worker.stores.queries import RequestFilter, count_redrivable, redrivable

_BATCH = 500
_SECONDS = 20
"""A redrive stops after this time and reports how many requests it redrove."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """How many requests were redriven, and the ids of the first ones."""

    count: int
    first_ids: list[ObjectId]


def count(service: Service, requests: RequestFilter, ids: Sequence[ObjectId] | None) -> int:
    """Count the requests that match the filter, and have one of `ids` if given, and that can be redriven."""
    return count_redrivable(service.connections, requests, ids)


def redrive(
    service: Service, requests: RequestFilter, ids: Sequence[ObjectId] | None, confirmed: int, listed: int
) -> Redriven:
    """Redrive at most `confirmed` requests, for at most 20 s. The result names the first `listed` ids."""
    stop_at = time.monotonic() + _SECONDS
    attempted = done = 0
    first_ids: list[ObjectId] = []
    for batch in redrivable(service.connections, requests, _BATCH, ids):
        selected = batch[: confirmed - attempted]
        redriven = service.redrive(selected) if selected else []
        attempted += len(selected)
        done += len(redriven)
        first_ids += [entry["_id"] for entry in redriven[: listed - len(first_ids)]]
        if attempted >= confirmed or time.monotonic() > stop_at:
            break
    return Redriven(done, first_ids)
