"""The endpoints of snapshots."""

import math
import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from bson import ObjectId
from fastapi import APIRouter, Request, Response
from pydantic import Field

from worker.api import parameters
from worker.api.acceptor import Wanted
from worker.api.container import parts_of, path_id
from worker.api.editor import Edit
from worker.api.lister import Found
from worker.api.poller import Outcome
from worker.api.queries import ExportQuery, ListQuery, read_query, refuse_query
from worker.api.responses import encode, error_answer, failed_answer, success
from worker.api.roles import Right
from worker.api.schemas import Deleted, Done, Export, Listed, Pending, PopulatedSnapshot, Snapshot, failures
from worker.api.streaming import streamed
from worker.api.tokens import Caller
from worker.domain.requests import ACCEPTED, FAILED, CamelModel, Id, Label, MessageIds, Notes, SnapshotRequest, Tags
from worker.domain.traceparent import TRACEPARENT, read_traceparent
from worker.domain.validation import check_request_id
from worker.errors import Deleted as DeletedError
from worker.errors import InvalidRequest, SnapshotError
from worker.service import Asked
from worker.settings import Settings

PATH = "/api/training/snapshots"
EXPORT_PATH = "/api/training/export"
_LOOK_SECONDS = 1.0
CREATED = "Training snapshot created successfully"


class Body(CamelModel):
    """Of POST. Organization and user are the token's."""

    contact_id: Id
    conversation_id: Id | None = None
    message_ids: MessageIds | None = None
    notes: Notes | None = None
    tags: Tags = Field(default_factory=list)
    quality: Label | None = None
    category: Label | None = None


def router(limits: Settings) -> APIRouter:
    """The operations, documented with these limits."""
    made = APIRouter(tags=["snapshots"])
    made.add_api_route(
        PATH,
        create,
        operation_id="createSnapshot",
        methods=["POST"],
        status_code=201,
        summary="Make a training snapshot",
        responses={
            201: {"model": Done[Snapshot], "description": "made", "headers": _LOCATION, "links": _LINKS},
            200: {"model": Done[Snapshot], "description": "made by an earlier request with this key"},
            202: {
                "model": Done[Pending],
                "description": "accepted, not done yet",
                "headers": _LOCATION,
                "links": _LINKS,
            },
            **failures(400, 403, 404, 409, 413),
        },
        openapi_extra={"requestBody": parameters.create_body(limits), "parameters": parameters.create_headers()},
    )
    made.add_api_route(
        PATH,
        list_snapshots,
        operation_id="listSnapshots",
        methods=["GET"],
        summary="List the organization's snapshots, newest first",
        responses={200: {"model": Listed, "description": "a page"}, **failures(400)},
        openapi_extra={"parameters": parameters.list_query(limits)},
    )
    made.add_api_route(
        PATH + "/{id}",
        show,
        operation_id="getSnapshot",
        methods=["GET"],
        summary="Show a snapshot, or how far it is",
        responses={
            200: {"model": Done[PopulatedSnapshot], "description": "the snapshot"},
            202: {"model": Done[Pending], "description": "accepted, not done yet"},
            **failures(400, 404, 413),
        },
        openapi_extra={"parameters": parameters.path_id()},
    )
    made.add_api_route(
        PATH + "/{id}",
        edit,
        operation_id="updateSnapshot",
        methods=["PATCH"],
        summary="Edit notes, tags, quality, category, isArchived",
        responses={200: {"model": Done[Snapshot], "description": "edited"}, **failures(400, 403, 404, 409, 413)},
        openapi_extra={"requestBody": parameters.edit_body(limits), "parameters": parameters.path_id()},
    )
    made.add_api_route(
        PATH + "/{id}",
        delete,
        operation_id="deleteSnapshot",
        methods=["DELETE"],
        summary="Delete a snapshot for good",
        responses={200: {"model": Deleted, "description": "deleted"}, **failures(400, 403, 404, 409)},
        openapi_extra={"parameters": parameters.path_id()},
    )
    made.add_api_route(
        EXPORT_PATH,
        export,
        operation_id="exportSnapshots",
        methods=["GET"],
        summary="Download the snapshots that are not archived, as training data",
        responses={200: {"model": Export, "description": "a file", "headers": _FILE}, **failures(400, 403)},
        openapi_extra={"parameters": parameters.export_query(limits)},
    )
    return made


_LOCATION = {"Location": {"description": "where the snapshot is, or will be", "schema": {"type": "string"}}}
_LINKS = {
    name: {"operationId": f"{name}Snapshot", "parameters": {"id": "$response.body#/data/_id"}}
    for name in ("get", "update", "delete")
}
_FILE = {"Content-Disposition": {"description": "names the file", "schema": {"type": "string"}}}


# --- create -------------------------------------------------------------------------------------------


async def create(request: Request) -> Response:
    """Accepts the request durably, also while Redis is down, and waits for its outcome."""
    parts = parts_of(request)
    caller = await parts.admit(request, Right.WRITE)
    refuse_query(request)
    key = _idempotency_key(request)
    request_id = key or uuid4().hex
    trace = read_traceparent(request.headers.get(TRACEPARENT))
    asked = _asked(await parts.body(request), caller, request_id, trace, parts.settings)
    try:
        receipt = await parts.accepting(Wanted(asked, repeatable=key is not None))
    except SnapshotError as error:
        return error_answer(error, request_id)
    if receipt.created:
        parts.waking.call(receipt.entry)
    seconds, applied = _patience(request, parts.settings)
    if receipt.entry["status"] != ACCEPTED:
        seconds = max(seconds, _LOOK_SECONDS)  # it is done: one look, whatever was preferred
    outcome = await parts.outcomes.wait(receipt.id, seconds) if seconds else None
    if outcome is None:
        return _pending(receipt.entry, applied)
    return _outcome_answer(outcome, 201 if receipt.created else 200)


def _idempotency_key(request: Request) -> str | None:
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    try:
        if len(given) > 1:
            raise ValueError("should be given once")
        if not given[0].isascii():
            raise ValueError("should be ASCII")
        return check_request_id(given[0])
    except ValueError as error:
        raise InvalidRequest([{"field": "Idempotency-Key", "message": str(error)}]) from None


def _asked(data: Any, caller: Caller, request_id: str, trace: str | None, limits: Settings) -> Asked:
    body = Body.read(data, limits)
    request = SnapshotRequest.model_construct(
        _fields_set=None, organization_id=caller.organization, user_id=caller.user, **dict(body)
    )
    return Asked(request, request_id, "api", traceparent=trace)


def _patience(request: Request, limits: Settings) -> tuple[float, dict[str, str]]:
    """Seconds to wait, and the header that says what preference was followed (RFC 7240)."""
    preferred = ",".join(request.headers.getlist("prefer")).lower()
    longest = limits.api_wait.total_seconds()
    if re.search(r"(^|,)\s*respond-async\s*(,|;|$)", preferred):
        return 0.0, {"Preference-Applied": "respond-async"}
    if found := re.search(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:,|;|$)", preferred, re.ASCII):
        return min(float(found[1]), longest), {"Preference-Applied": f"wait={found[1]}"}
    return longest, {}


def _pending(entry: Any, headers: dict[str, str]) -> Response:
    data = {name: entry[name] for name in ("_id", "requestId", "status")}
    data["acceptedAt"] = entry.get("acceptedAt", entry["_id"].generation_time)  # which retention strips
    location = {"Location": f"{PATH}/{entry['_id']}"}
    return success(202, "Training snapshot accepted", encode(data | {"status": ACCEPTED}), location | headers)


def _outcome_answer(outcome: Outcome, status: int) -> Response:
    entry = outcome.entry
    if entry["status"] == FAILED:
        return failed_answer(entry.get("error"))
    if outcome.document is None:
        return error_answer(DeletedError())
    return success(status, CREATED, outcome.document, {"Location": f"{PATH}/{entry['snapshotId']}"})


# --- read, edit, delete -------------------------------------------------------------------------------


async def list_snapshots(request: Request) -> Response:
    """Never an item twice, and none missed, with `after`, also while others are added."""
    parts = parts_of(request)
    caller = await parts.admit(request, Right.READ)
    query = ListQuery.read(read_query(request, ListQuery), parts.settings)
    return await streamed(parts.reading.page(caller.organization, query), parts.readers)


async def show(request: Request) -> Response:
    """The document with its user and contact; what a failed POST answered, where the request failed."""
    parts = parts_of(request)
    caller = await parts.admit(request, Right.READ)
    refuse_query(request)
    found: Found = await parts.read(parts.reading.one, caller.organization, path_id(request))
    if found.document is not None:
        return success(200, "Training snapshot", found.document)
    return failed_answer(found.entry.get("error")) if found.entry["status"] == FAILED else _pending(found.entry, {})


async def edit(request: Request) -> Response:
    """Captured messages are immutable."""
    parts = parts_of(request)
    caller = await parts.admit(request, Right.WRITE)
    refuse_query(request)
    key: ObjectId = path_id(request)
    changes = Edit.changes(await parts.body(request), parts.settings)
    document = await parts.write(parts.editing.patch, caller.organization, key, changes)
    return success(200, "Training snapshot updated successfully", encode(document))


async def delete(request: Request) -> Response:
    """Its request is never run again; its Idempotency-Key gets 404."""
    parts = parts_of(request)
    caller = await parts.admit(request, Right.DELETE)
    refuse_query(request)
    await parts.write(parts.editing.delete, caller.organization, path_id(request))
    return success(200, "Training snapshot deleted successfully")


async def export(request: Request) -> Response:
    """Streamed; count and content are of one moment. The archived are left out."""
    parts = parts_of(request)
    caller = await parts.admit(request, Right.EXPORT)
    query = ExportQuery.read(read_query(request, ExportQuery), parts.settings)
    now: datetime = await parts.read(parts.service.clock.now)
    name = f"training-data-{math.floor(now.astimezone(UTC).timestamp() * 1000)}.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return await streamed(parts.reading.export(caller.organization, query, now), parts.readers, headers)
