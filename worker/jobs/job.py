"""The durable record of a long task."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from bson import ObjectId

from worker.domain.ledger_entry import Failure
from worker.stores.connections import Document
from worker.stores.wakeups import EXPORTS, MAINTENANCE

Kind = Literal["export", "backfill", "erasure", "retention"]
JobStatus = Literal["accepted", "running", "completed", "failed", "cancelled"]

ACCEPTED: JobStatus = "accepted"
RUNNING: JobStatus = "running"
COMPLETED: JobStatus = "completed"
FAILED: JobStatus = "failed"
CANCELLED: JobStatus = "cancelled"
UNFINISHED = (ACCEPTED, RUNNING)

TASKS: dict[Kind, tuple[str, str]] = {
    "export": ("snapshots.export", EXPORTS),
    "backfill": ("snapshots.backfill", MAINTENANCE),
    "erasure": ("snapshots.erase", EXPORTS),  # the workers of that queue can reach the files of exports
    "retention": ("snapshots.expire", EXPORTS),
}
"""The Celery task that runs the slices of a kind of job, and its queue."""


@dataclass(frozen=True, slots=True)
class Job:
    """One document of the collection `snapshotjobs`. Dates are by MongoDB's clock.

    accepted ──claim──▶ running ──▶ completed, failed
        └───────────────────┴─────▶ cancelled
    """

    id: ObjectId
    kind: Kind
    organization: ObjectId
    spec: Mapping[str, Any]
    """The fields of the request for this job. They never change."""
    status: JobStatus
    accepted_at: datetime
    fence: int = 0
    """Grows with each claim. Every write of a slice requires the fence of its claim."""
    stalled: int = 0
    """How often the job was claimed since its last checkpoint. It grows when slices die or end without progress."""
    progress: Mapping[str, Any] | None = None
    """Counts that the API, the commands and the operations pages show."""
    checkpoint: Mapping[str, Any] | None = None
    """The state from which the next slice continues."""
    result: Mapping[str, Any] | None = None
    """The result of a completed job. Its event contains these fields, except for `files`."""
    error: Failure | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    user: ObjectId | None = None
    """The user who requested the job over HTTP; None if a command did."""
    is_local: bool = False
    """Whether a command runs the job in its own process. Such a job is never enqueued."""

    @property
    def is_finished(self) -> bool:
        """Whether the job is completed, failed or cancelled."""
        return self.status not in UNFINISHED

    @classmethod
    def read(cls, document: Document) -> "Job":
        """Read a document of the collection."""
        return cls(
            id=document["_id"],
            kind=document["kind"],
            organization=document["organizationId"],
            spec=document["spec"],
            status=document["status"],
            accepted_at=document["acceptedAt"],
            fence=document["fence"],
            stalled=document["stalled"],
            progress=document.get("progress"),
            checkpoint=document.get("checkpoint"),
            result=document.get("result"),
            error=document.get("error"),
            started_at=document.get("startedAt"),
            finished_at=document.get("finishedAt"),
            user=document.get("userId"),
            is_local=document.get("local", False),
        )
