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
    """Validate the fields of a requested export. Raises InvalidRequest, EmptySelection, InvalidSettings."""
    spec = ExportSpec.checked(given, service.settings)
    check_packages(spec.training_format, spec.compress)
    with store_errors():
        if service.snapshots.collection.find_one(spec.condition(organization), {"_id": 1}) is None:
            raise EmptySelection
    return spec


def accept_export(service: Service, organization: ObjectId, given: Any, user: ObjectId | None = None) -> Job:
    """Check and accept an export that workers write to SNAPSHOTS_EXPORTS_URL.

    Raises InvalidRequest, EmptySelection, InvalidSettings, StoreUnavailable, StoreConflict.
    """
    spec = check_export(service, organization, given)
    open_destination(service.settings, ObjectId())
    return Jobs(service).accept("export", organization, spec.stored(), user=user)


def delete_export(service: Service, job: Job) -> None:
    """Delete the record of a finished export, and its files unless a command has written them.

    Raises InvalidSettings, DestinationFailed, DestinationUnavailable, StoreUnavailable, StoreConflict.
    """
    if not job.is_local:
        open_destination(service.settings, job.id).remove()
    Selection(service.connections, job.id).remove()  # of one that was cancelled, and is not cleaned yet
    Jobs(service).delete(job.id)
