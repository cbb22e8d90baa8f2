"""Checks, accepts and deletes exports, for HTTP, commands and the operations pages."""

from typing import Any

from bson import ObjectId

from worker.errors import Refused
from worker.exports.encoding import check_packages
from worker.exports.freezing import EmptySelection
from worker.exports.places import open_destination
from worker.exports.selection import Selection
from worker.exports.spec import ExportSpec
from worker.jobs.job import UNFINISHED, Job
from worker.jobs.store import JobFilter, Jobs
from worker.service import Service
from worker.stores.connections import store_errors

MAX_UNFINISHED = 10
"""Maximum number of exports that workers write for an organization at a time. The slices of all exports and erasures
take turns, so more would delay those of other organizations without end."""


class TooManyExports(Refused):
    """The organization has ten exports in progress. Wait until one has ended, or cancel one."""

    code = "too_many_exports"


def check_export(service: Service, organization: ObjectId, given: Any) -> ExportSpec:
    """Validate a requested export without accepting it.

    Args:
        service: The service of this process.
        organization: The organization whose snapshots are exported.
        given: The fields of `ExportSpec`, in camelCase.

    Raises:
        InvalidRequest: Names each faulty field and what is allowed.
        EmptySelection: No snapshot of the organization matches the filters. If MongoDB does not find out within a
            second, the job fails with it instead.
        InvalidSettings: A package for the format or the compression is not installed; the message names the extra.
        StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; it is safe to try again.
    """
    spec = ExportSpec.checked(given, service.settings)
    check_packages(spec.training_format, spec.compress)
    if not service.snapshots.may_have_any(spec.condition(organization)):
        raise EmptySelection
    return spec


def accept_export(service: Service, organization: ObjectId, given: Any, user: ObjectId | None = None) -> Job:
    """Check and accept an export that workers write to SNAPSHOTS_EXPORTS_URL.

    Args:
        service: The service of this process.
        organization: The organization whose snapshots are exported.
        given: The fields of `ExportSpec`, in camelCase.
        user: Who asked for it; None for a command.

    Returns:
        The job, in the state `accepted`. Its end is announced by an event.

    Raises:
        TooManyExports: The organization has `MAX_UNFINISHED` exports in progress.
        InvalidSettings: SNAPSHOTS_EXPORTS_URL is not set or not valid, or as for `check_export`.
        InvalidRequest, EmptySelection, StoreUnavailable, StoreConflict: As for `check_export`.

    Example:
        job = accept_export(service(), organization, {"format": "messages", "quality": "good"})
    """
    jobs = Jobs(service)
    unfinished = {**JobFilter(organization, "export").condition(), "status": {"$in": UNFINISHED}, "local": None}
    with store_errors():
        if jobs.collection.count_documents(unfinished, limit=MAX_UNFINISHED) == MAX_UNFINISHED:
            raise TooManyExports
    spec = check_export(service, organization, given)
    open_destination(service.settings, ObjectId())
    return jobs.accept("export", organization, spec.stored(), user=user)


def delete_export(service: Service, job: Job) -> None:
    """Delete the record of a finished export, and its files unless a command has written them.

    Raises:
        DestinationFailed: The folder or bucket refuses; the record is kept.
        DestinationUnavailable: The bucket cannot be reached; the record is kept, and it is safe to try again.
        InvalidSettings: SNAPSHOTS_EXPORTS_URL is no longer set or valid.
        StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; it is safe to try again.
    """
    if not job.is_local:
        open_destination(service.settings, job.id).remove()
    Selection(service.connections, job.id).remove()  # of one that was cancelled, and is not cleaned yet
    Jobs(service).delete(job.id)
