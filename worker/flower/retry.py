"""Retries the requests of a failed task through the ledger's redrive."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import prometheus_client
import pymongo
from bson import ObjectId

from worker.bootstrap import service
from worker.domain.ledger_entry import ACCEPTED, COMPLETED, LedgerEntry, is_unsent
from worker.errors import TransientError
from worker.log import get_logger

log = get_logger(__name__)

RETRIES = prometheus_client.Counter(
    "snapshots_flower_retries", "Tasks that operators retried in Flower, by result", ["result"]
)
_SECONDS = 10.0
"""Time limit of a retry in MongoDB."""

_REASONS = {
    "completed": ("The request cannot be retried, because it has completed.", "completed"),
    "in_flight": ("The request is already being retried.", "being retried already"),
    "unsent": (
        "The event of the failure has not been sent yet. Try again in a few seconds.",
        "whose event has not been sent yet (try again in a few seconds)",
    ),
    "stripped": (
        "The ledger no longer has the content of this request. Send the request again.",
        "whose content the ledger no longer has",
    ),
    "not_found": ("The ledger no longer has this request: its entry was deleted.", "deleted from the ledger"),
}
"""Why a request was not retried: a sentence for a task with one request, and a phrase that follows the count for a task
with several. A message lists the phrases in this order."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of retrying one task, and how many requests were redriven."""

    task: str
    result: str
    """`retried`, if any request was; `unknown_task`, `no_request`, `unavailable`, or why none was retried."""
    message: str
    requests: int = 0
    """The number of requests that are being retried."""
    received: float | None = None
    """When a worker last received the task before the retry: a later time is that of the retry."""


def unknown_task(task: str) -> Answer:
    """Answer for a task that Flower does not know."""
    return Answer(task, "unknown_task", "Flower does not know this task; it keeps the last 20,000.")


def retry(task: str, keys: Sequence[ObjectId], received: float | None = None) -> Answer:
    """Redrive the failed requests of a task, under the same task id. Blocks for up to 10 s.

    Args:
        task: The id of the task.
        keys: The ledger ids of its requests that may have failed.
        received: When a worker last received the task, in seconds since 1970; part of the answer.
    """
    if not keys:
        return Answer(task, "no_request", "This task lists no failed requests from the ledger.")
    try:
        with pymongo.timeout(_SECONDS):
            redriven = {entry["_id"] for entry in service().redrive(keys, task)}
            left = [key for key in keys if key not in redriven]
            entries = {entry["_id"]: entry for entry in service().ledger.load(left)} if left else {}
    except TransientError as error:
        return Answer(task, "unavailable", f"{error.message} Try again later.")
    reasons = Counter(_reason(entries.get(key)) for key in left)
    result = "retried" if redriven else next(each for each in _REASONS if each in reasons)
    return Answer(task, result, _message(len(redriven), reasons, len(keys)), len(redriven), received)


def count_and_log(answer: Answer, operator: str) -> Answer:
    """Count an answer in the metric, and log it with the operator's name."""
    RETRIES.labels(answer.result).inc()
    log.info("operator_retry", task=answer.task, result=answer.result, requests=answer.requests, operator=operator)
    return answer


def _reason(entry: LedgerEntry | None) -> str:
    if entry is None:
        return "not_found"
    if entry["status"] == COMPLETED:
        return "completed"
    if entry["status"] == ACCEPTED:
        return "in_flight"
    return "unsent" if is_unsent(entry) else "stripped"


def _message(redriven: int, reasons: Counter[str], total: int) -> str:
    """Describe the results for the requests of one task."""
    if total == 1:
        return "The request is being retried." if redriven else _REASONS[next(iter(reasons))][0]
    parts = [f"{redriven} being retried"] if redriven else []
    parts += [f"{reasons[name]} {text}" for name, (_, text) in _REASONS.items() if reasons[name]]
    return f"This task listed {total} failed requests: {', '.join(parts)}."
