"""Accepts, shows and deletes the exports of one organization, and opens their files."""

import os
from collections.abc import Iterator
from typing import IO

import pymongo
from bson import ObjectId
from pydantic import Field

from worker.api.queries import MAX_LIMIT, Integer
from worker.api.responses import encode
from worker.domain.requests import CamelModel, Id
from worker.errors import NotFound
from worker.exports.accepting import accept_export, delete_export
from worker.exports.places import open_destination
from worker.exports.showing import shown
from worker.exports.spec import ExportSpec
from worker.jobs.job import COMPLETED, Job
from worker.jobs.store import JobFilter, Jobs
from worker.service import Service

_MAX_SECONDS = 5
_BLOCK = 256 * 1024


class ExportListQuery(CamelModel):
    """The parameters of `GET /api/training/exports`: the length of a page, and where it begins.

    `limit` is from 1 to 100 exports, by default 20. `after` is the id of the last export of the previous page.
    """

    limit: Integer = Field(20, ge=1, le=MAX_LIMIT)
    after: Id | None = None


class Exporter:
    """The exports of one organization. Its methods block; all raise StoreUnavailable and StoreConflict."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._jobs = Jobs(service)

    def accept(self, organization: ObjectId, user: ObjectId, spec: ExportSpec) -> Job:
        """Accept an export that workers write.

        Args:
            organization: The caller's organization.
            user: The caller, recorded in the job.
            spec: What to export, validated.

        Returns:
            The job, in the state `accepted`.

        Raises:
            EmptySelection: No snapshot matches the filters.
            TooManyExports: The organization has too many exports in progress.
            InvalidSettings: SNAPSHOTS_EXPORTS_URL is not set, or a package for the format is not installed.
        """
        with pymongo.timeout(_MAX_SECONDS):
            return accept_export(self._service, organization, spec.stored(), user)

    def page(self, organization: ObjectId, query: ExportListQuery) -> bytes:
        """Return up to `query.limit` exports as a JSON array, newest first, beginning after the id `query.after`."""
        with pymongo.timeout(_MAX_SECONDS):
            found = self._jobs.list(JobFilter(organization, "export"), query.limit, query.after)
        return encode([shown(each) for each in found])

    def show(self, organization: ObjectId, key: ObjectId) -> bytes:
        """Return an export as JSON, in the shape of `worker.api.export_schemas.ExportJob`.

        Raises NotFound if the organization has no such export.
        """
        return encode(shown(self._get(organization, key)))

    def delete(self, organization: ObjectId, key: ObjectId) -> bool:
        """Cancel an export in progress, or delete a finished one with its files; return whether it was cancelled.

        Raises NotFound, DestinationFailed, DestinationUnavailable, InvalidSettings.
        """
        job = self._get(organization, key)
        if self._jobs.cancel(key, organization):
            return True
        delete_export(self._service, job)
        return False

    def open(self, organization: ObjectId, key: ObjectId, name: str) -> tuple[IO[bytes], int]:
        """Open a finished file for reading; return it, which the caller closes, and its size in bytes.

        Args:
            organization: The caller's organization.
            key: The id of the export.
            name: The path of the file, one of those in `files` of the export.

        Raises:
            NotFound: The organization has no such export, it is not completed or was written by a command, it has no
                such file, or the file was removed because snapshots in it were erased or too old. The message says
                which.
            DestinationFailed, DestinationUnavailable: The folder or bucket refuses, or cannot be reached.
        """
        job = self._get(organization, key)
        files = (job.result or {}).get("files", ()) if job.status == COMPLETED and not job.is_local else ()
        if name not in {each["name"] for each in files}:
            raise NotFound("File not found in this export.")
        destination = open_destination(self._service.settings, key)
        if destination.manifest() and name not in destination.paths():
            raise NotFound("This file was removed, because snapshots in it were erased or too old.")
        file = destination.open(name)
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        return file, size

    def _get(self, organization: ObjectId, key: ObjectId) -> Job:
        with pymongo.timeout(_MAX_SECONDS):
            return self._jobs.get(key, organization, "export")


def blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the content of a file in blocks, and close it."""
    with file:
        while block := file.read(_BLOCK):
            yield block
