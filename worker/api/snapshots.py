"""The endpoints that list, show, edit, delete and export snapshots."""

import math
from datetime import UTC

from fastapi import APIRouter, Request, Response

from worker.api.dependencies import (
    App,
    ExportParameters,
    HoldExportSlot,
    HoldListSlot,
    ListParameters,
    MayDelete,
    MayExport,
    MayRead,
    MayWrite,
    PathId,
    read_json,
)
from worker.api.editor import SnapshotEdit
from worker.api.export_schemas import Export
from worker.api.parameters import PATH_ID
from worker.api.queries import refuse_query
from worker.api.responses import EXPORT_PATH, PATH, failed_response, pending_response, success
from worker.api.schemas import (
    ATTACHMENT,
    DeletedResponse,
    Done,
    Listed,
    Pending,
    PopulatedSnapshot,
    Snapshot,
    error_responses,
)
from worker.api.streaming import streamed
from worker.domain.ledger_entry import FAILED

router = APIRouter(tags=["snapshots"])


@router.head(PATH, include_in_schema=False)
@router.get(
    PATH,
    operation_id="listSnapshots",
    summary="List the organization's snapshots, newest first",
    responses={200: {"model": Listed, "description": "A page of the list."}, **error_responses(400)},
)
async def list_snapshots(app: App, caller: MayRead, query: ListParameters, _: HoldListSlot) -> Response:
    """Returns a page of the organization's snapshots, newest first.

    To get the following page, pass `next` of this page as `after`. Then no snapshot is listed twice or missed, even
    while others are added.
    """
    return await streamed(app.lister.page(caller.organization, query), app.listers)


@router.head(PATH + "/{id}", include_in_schema=False)
@router.get(
    PATH + "/{id}",
    operation_id="getSnapshot",
    summary="Show a snapshot, or the state of its request",
    responses={
        200: {"model": Done[PopulatedSnapshot], "description": "The snapshot."},
        202: {"model": Done[Pending], "description": "The request was accepted; the snapshot is not ready yet."},
        **error_responses(400, 404, 410, 413),
    },
    openapi_extra={"parameters": PATH_ID},
)
async def show(request: Request, app: App, caller: MayRead, key: PathId) -> Response:
    """Returns a snapshot with its user and contact, or, if its request failed, the error that the POST returned."""
    refuse_query(request)
    async with app.read_slots.hold(caller.organization):
        found = await app.readers.run(app.reader.one, caller.organization, key)
    if found.entry is None:
        return success(200, "Training snapshot", found.document)
    if found.entry["status"] == FAILED:
        return failed_response(found.entry.get("error"))
    return pending_response(found.entry)


@router.patch(
    PATH + "/{id}",
    operation_id="updateSnapshot",
    summary="Edit notes, tags, quality, category, isArchived",
    responses={
        200: {"model": Done[Snapshot], "description": "The edited snapshot."},
        **error_responses(400, 403, 404, 409, 413),
    },
    openapi_extra={"parameters": PATH_ID},
)
async def edit(request: Request, app: App, caller: MayWrite, key: PathId) -> Response:
    """Changes notes, tags, quality, category or `isArchived`. The captured messages are immutable."""
    refuse_query(request)
    changes = await read_json(request, app, caller, lambda data: SnapshotEdit.changes(data, app.settings))
    async with app.edit_slots.hold(caller.organization):
        document = await app.writers.run(app.editor.patch, caller.organization, key, changes)
    return success(200, "Training snapshot updated successfully", document)


@router.delete(
    PATH + "/{id}",
    operation_id="deleteSnapshot",
    summary="Delete a snapshot permanently",
    responses={
        200: {"model": DeletedResponse, "description": "The snapshot was deleted."},
        **error_responses(400, 403, 404, 409),
    },
    openapi_extra={"parameters": PATH_ID},
)
async def delete(request: Request, app: App, caller: MayDelete, key: PathId) -> Response:
    """Deletes a snapshot permanently. Its request never runs again: a POST with its Idempotency-Key gets a 404."""
    refuse_query(request)
    async with app.edit_slots.hold(caller.organization):
        await app.writers.run(app.editor.delete, caller.organization, key)
    return success(200, "Training snapshot deleted successfully")


@router.get(
    EXPORT_PATH,
    operation_id="exportSnapshots",
    summary="Download the snapshots that are not archived, as training data",
    responses={200: {"model": Export, "description": "a file", "headers": ATTACHMENT}, **error_responses(400, 403)},
)
async def export(app: App, caller: MayExport, query: ExportParameters, _: HoldExportSlot) -> Response:
    """Streams all matching snapshots, as they were at one moment. Archived snapshots are omitted."""
    now = await app.readers.run(app.connections.clock.now)
    name = f"training-data-{math.floor(now.astimezone(UTC).timestamp() * 1000)}.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return await streamed(app.lister.export(caller.organization, query, now), app.listers, headers)
