"""A long task as its record keeps it."""

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
    """What was asked for; it never changes."""
    status: JobStatus
    accepted_at: datetime
    fence: int = 0
    """Grows with each claim. Every write of a slice requires the fence of its claim."""
    stalled: int = 0
    """Claims since the last checkpoint: slices that died, or ended without progress."""
    progress: Mapping[str, Any] | None = None
    """Counts for those who watch."""
    checkpoint: Mapping[str, Any] | None = None
    """Where the next slice continues."""
    result: Mapping[str, Any] | None = None
    """What a completed job made, and all that its event says of it."""
    error: Failure | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    user: ObjectId | None = None
    """Who asked for it over HTTP; None for a command."""
    is_local: bool = False
    """A command runs it in its own process; it is never enqueued."""

    @property
    def is_finished(self) -> bool:
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
