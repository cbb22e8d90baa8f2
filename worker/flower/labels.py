"""Our columns on Flower's pages: the request of a task, its organization, trigger and outcome.

They are read from the ledger when a page is shown or a search needs them; the workers' events contain ledger ids only.
"""

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pymongo
from bson import ObjectId

from worker.bootstrap import service
from worker.domain.ledger_entry import COMPLETED
from worker.errors import TransientError
from worker.flower.task_requests import known_requests, named_request
from worker.stores.connections import Document, store_errors

COLUMNS = {
    "name": "Task",
    "request": "Request",
    "state": "State",
    "outcome": "Outcome",
    "exception": "Reason",
    "organization": "Organization",
    "trigger": "Trigger",
    "retries": "Retries",
    "received": "Received",
    "runtime": "Runtime",
    "uuid": "UUID",
    "worker": "Worker",
}
"""The columns of the tasks page and their headings: Flower's own, and four of ours. Screens cut off the last ones."""

SEARCHABLE = ("organization", "trigger", "outcome")
_OWN = ("request", *SEARCHABLE)
_SECONDS = 0.5
"""Time limit of a read for a page: Flower makes its pages one after the other."""
_SEARCH_SECONDS = 5.0
"""Time limit of the reads for a search, which run in a thread."""
_BATCH = 1000
_PAUSE = 10.0
"""Seconds until the next read for a page after MongoDB did not answer."""
_FIELDS = {"organizationId": 1, "trigger": 1, "status": 1, "error.code": 1}


@dataclass(frozen=True, slots=True)
class RequestLabel:
    """The ledger's facts about a request, which Flower shows in columns."""

    organization: str
    trigger: str
    outcome: str
    final: bool
    """Whether the label cannot change any more, because the request has completed."""


_UNKNOWN = RequestLabel("", "", "", final=False)


class Labels:
    """Reads labels, and remembers them for searches. Change it in Flower's main thread only."""

    def __init__(self) -> None:
        self._known: dict[ObjectId, RequestLabel] = {}
        self._not_before = 0.0

    def label(self, task: Any) -> Any:
        """Add the columns to a copy of Flower's task. While MongoDB cannot be reached, they hold what is known."""
        task._fields = (*type(task)._fields, *_OWN)  # the fields that its pages show
        task.__dict__.update(dict.fromkeys(_OWN, ""))
        named = named_request(task.args)
        if named is None:
            return task
        label = self._read_one(named.key)
        task.request = str(named.key) if named.total == 1 else f"{named.key} and {named.total - 1} more"
        task.organization, task.trigger = label.organization, label.trigger
        task.outcome = label.outcome if named.total == 1 else ""
        return task

    def _read_one(self, key: ObjectId) -> RequestLabel:
        known = self._known.get(key, _UNKNOWN)
        if known.final:
            return known
        without_outcome = replace(known, outcome="")  # which may have changed since it was read
        if time.monotonic() < self._not_before:
            return without_outcome
        try:
            self._known |= read_labels([key], _SECONDS)
        except TransientError:
            self._not_before = time.monotonic() + _PAUSE
            return without_outcome
        return self._known.get(key, _UNKNOWN)

    # --- for searches ---------------------------------------------------------------------------------

    def text(self, keys: Iterable[ObjectId], field: str) -> str:
        """Return the text of one field in the labels of these requests, in lower case."""
        found = (self._known.get(key, _UNKNOWN) for key in keys)
        return "\0".join(str(getattr(each, field)).casefold() for each in found)

    def outdated(self, tasks: Iterable[Any]) -> list[ObjectId]:
        """Return the requests of these tasks whose labels have to be read, and forget those of other tasks."""
        keys = {key for task in tasks for key in known_requests(task)}
        self._known = {key: label for key, label in self._known.items() if key in keys}
        return [key for key in keys if not self._known.get(key, _UNKNOWN).final]

    def remember(self, labels: dict[ObjectId, RequestLabel]) -> None:
        """Use labels that a thread has read."""
        self._known |= labels


def read_labels(keys: Collection[ObjectId], seconds: float = _SEARCH_SECONDS) -> dict[ObjectId, RequestLabel]:
    """Read labels from the ledger; requests that do not exist are omitted. Raises StoreUnavailable, StoreConflict."""
    own = service()
    requests = own.connections.database[own.settings.requests_collection]
    left, found = iter(keys), list[Document]()
    with store_errors(), pymongo.timeout(seconds):
        while page := list(islice(left, _BATCH)):
            found += requests.find({"_id": {"$in": page}}, _FIELDS, batch_size=_BATCH + 1)
    return {entry["_id"]: _label_of(entry) for entry in found}


def _label_of(entry: Document) -> RequestLabel:
    code = (entry.get("error") or {}).get("code")
    outcome = f"{entry['status']}: {code}" if code else str(entry["status"])
    return RequestLabel(
        str(entry["organizationId"]), str(entry.get("trigger", "")), outcome, entry["status"] == COMPLETED
    )
