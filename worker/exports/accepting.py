"""Checks, accepts and deletes exports, for HTTP, commands and the operations pages."""

from typing import Any

from bson import ObjectId

from worker.exports.encoding import check_packages
from worker.exports.freezing import EmptySelection
from worker.exports.places import open_destination
from worker.exports.selection import Selection
from worker.exports.spec import ExportSpec
from worker.jobs.job import Job
from worker.jobs.store import Jobs
from worker.service import Service
from worker.stores.connections import store_errors


def check_export(service: Service, organization: ObjectId, given: Any) -> ExportSpec:
    """Validate a requested export without accepting it.

    Args:
        service: The service of this process.
        organization: The organization whose snapshots are exported.
        given: The fields of `ExportSpec`, in camelCase.

    Raises:
        InvalidRequest: Names each faulty field and what is allowed.
        EmptySelection: No snapshot of the organization matches the filters.
        InvalidSettings: A package for the format or the compression is not installed; the message names the extra.
        StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; it is safe to try again.
    """
    spec = ExportSpec.checked(given, service.settings)
    check_packages(spec.training_format, spec.compress)
    with store_errors():
        if service.snapshots.collection.find_one(spec.condition(organization), {"_id": 1}) is None:
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
        InvalidSettings: SNAPSHOTS_EXPORTS_URL is not set or not valid, or as for `check_export`.
        InvalidRequest, EmptySelection, StoreUnavailable, StoreConflict: As for `check_export`.

    Example:
        job = accept_export(service(), organization, {"format": "messages", "quality": "good"})
    """
    spec = check_export(service, organization, given)
    open_destination(service.settings, ObjectId())
    return Jobs(service).accept("export", organization, spec.stored(), user=user)


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
