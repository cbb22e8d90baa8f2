"""Accepts backfills as jobs."""

from collections.abc import Mapping
from typing import Any

from bson import ObjectId

from worker.backfills.selection import Selection
from worker.backfills.spec import BackfillSpec
from worker.errors import BackfillInProgress, NotFound
from worker.jobs.job import UNFINISHED, Job
from worker.jobs.store import JobFilter, Jobs

_RECENT = 100
"""How many of an organization's latest backfills are searched for an unfinished one."""


def accept_backfill(jobs: Jobs, organization: ObjectId, given: Mapping[str, Any], *, enqueue: bool) -> Job:
    """Accept a backfill, which requests a snapshot of each selected conversation.

    Args:
        jobs: The store of jobs.
        organization: The organization whose conversations are selected.
        given: The fields of `BackfillSpec` without the organization, in camelCase.
        enqueue: Whether a worker begins now. Otherwise the caller runs it, and workers take over if the caller
            dies.

    Returns:
        The job; if one with the same fields is in progress, that one.

    Raises:
        InvalidRequest: Names each faulty field and what is allowed.
        BackfillInProgress: Another backfill of the organization is in progress. `details["backfill"]` is its id.
        NotFound: The filters select no conversation.
        StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; it is safe to try again.
    """
    service = jobs.service
    spec = BackfillSpec.read(given, service.settings, {"organizationId": organization})
    for job in jobs.list(JobFilter(organization, "backfill"), _RECENT):
        if job.status in UNFINISHED:
            if job.spec == given:
                return job
            raise BackfillInProgress(backfill=str(job.id))
    if not Selection(service.connections, spec).has_any():
        raise NotFound("The organization has no such conversations.", organizationId=str(organization))
    return jobs.accept("backfill", organization, given, enqueue=enqueue)


def count_selected(jobs: Jobs, organization: ObjectId, given: Mapping[str, Any]) -> int:
    """Count the conversations that a backfill would select, without accepting it.

    With `minMessages`, `from` or `to` this reads the times of all messages of the organization, page by page.

    Args:
        jobs: The store of jobs.
        organization: The organization whose conversations are selected.
        given: The fields of `BackfillSpec` without the organization, in camelCase.

    Raises:
        InvalidRequest: Names each faulty field and what is allowed.
        StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; it is safe to try again.
    """
    spec = BackfillSpec.read(given, jobs.service.settings, {"organizationId": organization})
    selection = Selection(jobs.service.connections, spec)
    if (total := selection.count()) is None:
        total, position = 0, None
        while True:
            selected, position = selection.page(position, 1000)
            total += len(selected)
            if position is None:
                break
    return total if spec.limit is None else min(total, spec.limit)
