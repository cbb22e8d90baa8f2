"""The events of finished jobs, on the same stream as those of requests."""

from collections.abc import Iterable
from typing import Any

from worker.clock import to_json
from worker.jobs.job import COMPLETED, Job
from worker.stores.connections import Connections
from worker.stores.events import Events

SOURCE = "/training/jobs"
TYPES = {("erasure", COMPLETED): "training.contact.erased"}
"""Event types by kind and status, for those that do not follow the pattern `training.<kind>.<status>`."""


def event_of(job: Job) -> dict[str, Any]:
    """Build the CloudEvent of a completed or failed job from its record alone, so that every repeat is identical.

    Its type is `training.<kind>.completed` or `training.<kind>.failed`. A completed erasure: `training.contact.erased`.
    """
    assert job.finished_at is not None  # noqa: S101 - only finished jobs have events
    data: dict[str, Any] = {"organizationId": str(job.organization), "jobId": str(job.id)}
    if job.status == COMPLETED:
        data |= {name: value for name, value in (job.result or {}).items() if name != "files"}
    else:
        data["error"] = job.error
    return {
        "specversion": "1.0",
        "id": f"{job.id}.0",
        "source": SOURCE,
        "type": TYPES.get((job.kind, job.status), f"training.{job.kind}.{job.status}"),
        "subject": str(job.id),
        "time": to_json(job.finished_at),
        "datacontenttype": "application/json",
        "data": data,
    }


def emit(connections: Connections, jobs: Iterable[Job]) -> None:
    """Add the events of these jobs to the stream. Raises the errors of `worker.stores.events.Events.add`."""
    Events(connections).add([event_of(job) for job in jobs])
