"""Changes the workers' events before Flower stores them.

Flower applies `format_task` to its pages but not to its API, so personal data must be removed from the events. Our own
contain none, but any producer may send a `task-sent` event with its arguments, and the text of an unexpected error may
contain anything.
"""

import re
from collections.abc import Mapping
from typing import Any

from worker import errors
from worker.flower.task_requests import failed_in_task, named_request

_HIDDEN = "..."
_CAUSE = re.compile(r"\n(?:The above exception was the direct cause|During handling of the above exception)[^\n]*\n\n")
"""Separates the causes in a traceback, the first one first: https://docs.python.org/3/library/traceback.html"""
_REASONS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
_REASONS |= {"SoftTimeLimitExceeded", "TimeLimitExceeded", "WorkerLostError", "Terminated", "TaskRevokedError"}


def without_personal_data(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the event of a worker or a producer, with arguments hidden unless they are ledger ids.

    The texts of exceptions are hidden unless the exception is one of ours, and so are its causes: the text of a
    driver's error may quote what was written.
    """
    clean = dict(event)
    if not str(event.get("type", "")).startswith("task-"):
        return clean
    for name in ("args", "result"):
        if name in clean and named_request(clean[name]) is None and str(clean[name]) != "None":
            clean[name] = _HIDDEN
    if "kwargs" in clean and clean["kwargs"] != "{}":
        clean["kwargs"] = _HIDDEN
    if "exception" in clean:
        kind = re.split(r"\W", str(clean["exception"]), maxsplit=1)[0]
        if kind not in _REASONS:
            clean |= {"exception": f"{kind}({_HIDDEN})", "traceback": _HIDDEN}
    if isinstance(clean.get("traceback"), str):
        clean["traceback"] = _CAUSE.split(clean["traceback"])[-1]
    return clean


def begin_again(task: Any) -> None:
    """Let a failed task of Flower run again, as `task-received` reports after a retry.

    Celery would treat this event as a late one, because it belongs to an earlier state, and show the failure until the
    task ends. The failed requests stay known, so that Retry can be pressed again.
    """
    if task.state == "FAILURE":
        task.failed_before = failed_in_task(task)
        task.state, task.failed, task.exception, task.traceback = "PENDING", None, None, None
