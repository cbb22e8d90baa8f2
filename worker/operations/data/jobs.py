"""Exports and backfills for the pages, and how operators cancel or delete them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from bson import ObjectId

from worker.backfills.progress import Progress
from worker.errors import InvalidRequest, NotFound
from worker.exports.accepting import delete_export
from worker.jobs.job import Job, Kind
from worker.jobs.store import Jobs
from worker.service import Service

Action = Literal["cancel", "delete"]
ACTIONS: tuple[Action, ...] = ("cancel", "delete")
KINDS: dict[Kind, str] = {"export": "Exports", "backfill": "Backfills"}
_PERSONAL = ("notes", "q", "system")
"""Fields of a job that may contain personal data, and are not shown."""


@dataclass(frozen=True, slots=True)
class ShownJob:
    """A job with the values that the pages derive from it. `total` is None while it is still being counted."""

    job: Job
    done: int
    total: int | None
    counts: Mapping[str, int]
    reasons: Mapping[str, int]
    """Snapshots or conversations that were left out or failed, by reason."""

    @property
    def user(self) -> str:
        """The user who requested the job; empty if a command did."""
        return str(self.job.user or self.job.spec.get("userId") or "")

    @property
    def options(self) -> dict[str, str]:
        """The options of the job, by their readable names."""
        given = {name: value for name, value in self.job.spec.items() if name != "userId"}
        return {name: "given" if name in _PERSONAL else _in_words(value) for name, value in given.items()}

    @property
    def history(self) -> list[tuple[str, datetime]]:
        moments = {
            "accepted": self.job.accepted_at,
            "started": self.job.started_at,
            str(self.job.status): self.job.finished_at,
        }
        return [(name, moment) for name, moment in moments.items() if moment]

    @property
    def action(self) -> Action | None:
        """The action that an operator may take now: `cancel`, `delete`, or None."""
        if not self.job.is_finished:
            return "cancel"
        return "delete" if self.job.kind == "export" else None


def shown(job: Job) -> ShownJob:
    """Return a job for a page."""
    if job.kind == "backfill":
        progress = Progress.of(job)
        counts = {name: value for name, value in progress.as_fields().items() if isinstance(value, int)}
        reasons = dict(progress.failures + progress.refused)
        return ShownJob(job, progress.completed + progress.failed, progress.conversations, counts, reasons)
    known = dict(job.progress or {})
    is_writing = known.pop("phase", "select") == "write"
    made: Mapping[str, Any] = (job.result or {}).get("counts", known)
    counts = {name: value for name, value in made.items() if isinstance(value, int)}
    total = known.get("selected") if is_writing else None
    return ShownJob(job, known.get("written", 0), total, counts, made.get("skipped", {}))


def find(jobs: Jobs, key: ObjectId, organization: ObjectId | None) -> Job:
    """Return an export or a backfill of an organization, or of any if that is None.

    Raises NotFound, including for a job that operators cannot end, such as an erasure.
    """
    job = jobs.get(key, organization)
    if job.kind not in KINDS:
        raise NotFound("Job not found.")
    return job


def end(service: Service, key: ObjectId, organization: ObjectId | None, action: Action) -> None:
    """Cancel a job, or delete a finished export with its files. A job that has just finished is not cancelled.

    Args:
        service: The service of this process.
        key: The id of the job.
        organization: The organization whose jobs the operator may end. None: all.
        action: `cancel` or `delete`.

    Raises:
        NotFound: There is no such export or backfill.
        InvalidRequest: The job cannot be deleted, because it is not a finished export.
        InvalidSettings, DestinationFailed, DestinationUnavailable: The files cannot be removed.
    """
    jobs = Jobs(service)
    job = find(jobs, key, organization)
    if action == "cancel":
        jobs.cancel(key, organization)
    elif shown(job).action == "delete":
        delete_export(service, job)
    else:
        raise InvalidRequest([{"field": "action", "message": "should be cancel: only finished exports can be deleted"}])


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
