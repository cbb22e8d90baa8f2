"""The fields of an export in the output of commands and in the HTTP API."""

from typing import Any

from worker.jobs.job import Job


def shown(job: Job) -> dict[str, Any]:
    """Return the state, progress and counts of an export, and the names of its files once it is completed."""
    result = dict(job.result or {})
    return {
        "_id": job.id,
        "organizationId": job.organization,
        "userId": job.user,
        "status": job.status,
        "spec": dict(job.spec),
        "progress": dict(job.progress or {}),
        "acceptedAt": job.accepted_at,
        "startedAt": job.started_at,
        "finishedAt": job.finished_at,
        "error": job.error,
        "moment": result.get("moment"),
        "counts": result.get("counts"),
        "splits": result.get("splits"),
        "files": result.get("files", []),
    }
