"""Reads which requests of the ledger a task in Flower names."""

import re
from typing import Any, NamedTuple

from bson import ObjectId

from worker.domain.task_failure import failed_requests
from worker.stores.wakeups import CREATE

_ARGUMENTS = re.compile(r"(?:(\d+) requests from )?([0-9a-f]{24})")
"""A message's arguments as `repr_of` in worker/stores/wakeups.py writes them."""


class NamedRequest(NamedTuple):
    """The first request of a task, and how many requests the task has."""

    key: ObjectId
    total: int


def named_request(arguments: Any) -> NamedRequest | None:
    """Return the requests that the arguments of a task name, or None if they are not ledger ids."""
    match = _ARGUMENTS.fullmatch(str(arguments))
    return NamedRequest(ObjectId(match[2]), int(match[1] or 1)) if match else None


def known_requests(task: Any) -> list[ObjectId]:
    """Return the requests of a task that Flower knows: the first one, and those that failed."""
    first = named_request(task.args)
    if first is None:
        return []
    return list(dict.fromkeys([first.key, *failed_in_task(task)]))


def retryable_requests(task: Any) -> list[ObjectId]:
    """Return the requests that a retry of the task redrives if they have failed.

    For a task with one request, that is this request. For a chunk, only the requests that failed are known.
    """
    first = named_request(task.args)
    if first is None or task.name != CREATE:
        return []
    return [first.key] if first.total == 1 else failed_in_task(task)


def failed_in_task(task: Any) -> list[ObjectId]:
    """Return the requests that the task lists as failed or, while it is retried, those that had failed before."""
    return failed_requests(str(task.traceback or "")) or getattr(task, "failed_before", [])
