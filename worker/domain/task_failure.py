"""The error that ends a task whose requests failed: the text that Flower shows, and the list of requests. Pure.

The list takes the place of the traceback in the task's event, because a traceback would only show our own code. A retry
from Flower redrives the requests in it.
"""

import re
from collections import Counter
from collections.abc import Mapping

from bson import ObjectId

from worker.domain.ledger_entry import Failure
from worker.errors import RequestFailed

_LINE = re.compile(r"^([0-9a-f]{24}): ", re.MULTILINE)


def task_failure(failures: Mapping[ObjectId, Failure], total: int) -> RequestFailed:
    """Return the error for a task of `total` requests, of which `failures` failed.

    For one request it has the ledger's code and message, for several the number of failures by code.
    """
    lines = [f"{key}: {_reason(failure)}" for key, failure in failures.items()]
    if total == 1:
        (failure,) = failures.values()
        return RequestFailed(_reason(failure), requests=lines)
    codes = Counter(failure["code"] for failure in failures.values())
    by_code = ", ".join(f"{count} {code}" for code, count in codes.most_common())
    return RequestFailed(f"{len(failures)} of {total} requests failed: {by_code}", requests=lines)


def failed_requests(listing: str) -> list[ObjectId]:
    """Return the ids of the requests in the list of a failed task."""
    return [ObjectId(key) for key in dict.fromkeys(_LINE.findall(listing))]


def _reason(failure: Failure) -> str:
    return f"{failure['code']}: {' '.join(failure['message'].split())}"
