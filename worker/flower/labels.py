"""Flower as the retry dashboard: whose request a task is, and nothing personal.

Flower keeps what the workers' events say: ledger ids, attempts, reasons. Organization and trigger stand in the
ledger, and are read when a page is shown. Flower applies `format_task` to its pages only, not to its API, so what
is personal has to be out of the events before Flower has them: ours hold nothing, but any producer may send a
`task-sent` event with its arguments, and an error that no one foresaw may say anything.
"""

import re
import time
from collections.abc import Mapping
from typing import Any

import pymongo
from bson import ObjectId

from worker import errors
from worker.bootstrap import service
from worker.errors import TransientError
from worker.stores.connections import Document, store_errors

COLUMNS = {
    "name": "Task",
    "request": "Request",
    "organization": "Organization",
    "trigger": "Trigger",
    "state": "State",
    "outcome": "Outcome",
    "retries": "Retries",
    "exception": "Reason",
    "received": "Received",
    "runtime": "Runtime",
    "uuid": "UUID",
    "worker": "Worker",
}
"""Of the tasks page, in order: Flower's own, and four of ours."""

_OWN = ("request", "organization", "trigger", "outcome")
_NAMED = re.compile(r"(?:(\d+) requests from )?([0-9a-f]{24})")
"""What worker/stores/wakeups.py, repr_of, says of a message's arguments."""
_HIDDEN = "..."

_SECONDS = 0.5
"""A read of the ledger, at most: Flower's pages are made one after the other."""
_PAUSE = 10.0
"""Seconds without another try after MongoDB did not answer."""

_REASONS = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)}
_REASONS |= {"SoftTimeLimitExceeded", "TimeLimitExceeded", "WorkerLostError", "Terminated", "TaskRevokedError"}
_TEXTS = ("args", "kwargs", "result", "exception", "traceback")


def without_personal_data(event: Mapping[str, Any]) -> dict[str, Any]:
    """A worker's or a producer's event: arguments that name ledger ids, and reasons of ours, or nothing of either."""
    clean = dict(event)
    if not str(event.get("type", "")).startswith("task-"):
        return clean
    for name in ("args", "result"):
        if name in clean and not _NAMED.fullmatch(str(clean[name])) and clean[name] not in {None, "None"}:
            clean[name] = _HIDDEN
    if "kwargs" in clean and clean["kwargs"] != "{}":
        clean["kwargs"] = _HIDDEN
    if "exception" in clean:
        kind = re.split(r"\W", str(clean["exception"]), maxsplit=1)[0]
        if kind not in _REASONS:
            clean |= {"exception": f"{kind}({_HIDDEN})", "traceback": _HIDDEN}
    return clean


class Labels:
    """Adds to a task whose request it is, as the ledger says."""

    def __init__(self) -> None:
        self._not_before = 0.0

    def __call__(self, task: Any) -> Any:
        """A copy of Flower's task, with the columns of ours; they are empty while MongoDB is away."""
        task._fields = (*type(task)._fields, *_OWN)  # what its pages show of a task
        task.__dict__.update(dict.fromkeys(_OWN, ""))
        found = _NAMED.fullmatch(str(task.args))
        if found is None:
            return task
        number, key = found.groups()
        entry = self._entry(ObjectId(key))
        task.request = f"{key} and {int(number) - 1} more" if number else key
        task.organization = str(entry.get("organizationId", ""))
        task.trigger = str(entry.get("trigger", ""))
        task.outcome = "" if number else _outcome(entry)
        return task

    def _entry(self, key: ObjectId) -> Document:
        if time.monotonic() < self._not_before:
            return {}
        own = service()
        requests = own.connections.database[own.settings.requests_collection]
        wanted = {"organizationId": 1, "trigger": 1, "status": 1, "error.code": 1}
        try:
            with store_errors(), pymongo.timeout(_SECONDS):
                return requests.find_one({"_id": key}, wanted) or {}
        except TransientError:
            self._not_before = time.monotonic() + _PAUSE
            return {}


def _outcome(entry: Mapping[str, Any]) -> str:
    code = (entry.get("error") or {}).get("code")
    return f"{entry['status']}: {code}" if code else str(entry.get("status", ""))


def login_fault(basic_auth: list[str], auth: str, provider: str | None, oauth: Mapping[str, str | None]) -> str | None:
    """Why Flower must not start with this login, or None. `oauth`: what the provider wants, by its variable's name."""
    if basic_auth and auth:
        return "set FLOWER_BASIC_AUTH or FLOWER_AUTH, not both: Flower would ask for both"
    if basic_auth:
        if all(re.fullmatch(r"[^:]+:.{8,}", each) for each in basic_auth):
            return None
        return "FLOWER_BASIC_AUTH should be name:password, the password of 8 characters or more"
    if not auth:
        return "a login is required: set FLOWER_BASIC_AUTH=name:password, or FLOWER_AUTH for OAuth"
    missing = [name for name, value in {"FLOWER_AUTH_PROVIDER": provider, **oauth}.items() if not value]
    return f"OAuth (FLOWER_AUTH) needs {', '.join(missing)} as well" if missing else None
