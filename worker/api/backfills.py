"""The backfill endpoints."""

from typing import Any, Literal

from bson import ObjectId
from fastapi import APIRouter, Request, Response
from pydantic import Field

from worker.api.container import Container
from worker.api.dependencies import App, MayExport, MayRead, PathId, read_json
from worker.api.parameters import PATH_ID
from worker.api.queries import refuse_query
from worker.api.responses import BACKFILLS_PATH, encode, success
from worker.api.schemas import DateTime, Done, Id, JobFailure, Shape, error_responses
from worker.backfills.accepting import accept_backfill
from worker.backfills.progress import Progress
from worker.backfills.spec import BackfillSpec
from worker.jobs.job import Job
from worker.jobs.store import JobFilter

router = APIRouter(tags=["backfills"])

_LISTED = 100
"""Maximum number of backfills in the list."""
_LOCATION: dict[str, Any] = {"Location": {"description": "the backfill's path", "schema": {"type": "string"}}}


class BackfillState(Shape):
    """A backfill. `conversations` is null until they are counted."""

    id: Id = Field(alias="_id")
    status: Literal["accepted", "running", "completed", "failed", "cancelled"]
    asked: dict[str, Any] = Field(description="the body of the request that created it")
    conversations: int | None
    requests: int = Field(description="accepted requests, including those that existed before this backfill")
    accepted: int = Field(description="accepted requests that did not exist before this backfill")
    completed: int
    failed: int
    in_flight: int
    deleted: int = Field(description="conversations whose snapshot was deleted; they get no new one")
    failures: dict[str, int] = Field(description="failed requests by error code")
    refused: dict[str, int] = Field(description="conversations that could not be requested, by error code")
    accepted_at: DateTime
    started_at: DateTime | None
    finished_at: DateTime | None
    error: JobFailure | None


def _shown(job: Job) -> dict[str, Any]:
    return {
        "_id": job.id,
        "status": job.status,
        "asked": dict(job.spec),
        **Progress.of(job).as_fields(),
        "acceptedAt": job.accepted_at,
        "startedAt": job.started_at,
        "finishedAt": job.finished_at,
        "error": job.error,
    }


@router.post(
    BACKFILLS_PATH,
    operation_id="createBackfill",
    status_code=202,
    summary="Request a snapshot of every conversation",
    responses={
        202: {"model": Done[BackfillState], "description": "The backfill was accepted.", "headers": _LOCATION},
        **error_responses(400, 403, 404, 409, 413),
    },
)
async def create_backfill(request: Request, app: App, caller: MayExport) -> Response:
    """While a backfill is in progress, the same body returns that backfill, and another body gets 409."""
    refuse_query(request)
    known = {"organizationId": caller.organization, "userId": caller.user}

    def checked(data: Any) -> dict[str, Any]:
        BackfillSpec.read(data, app.settings, known)
        return {**data, "userId": caller.user}

    given = await read_json(request, app, caller, checked)
    job = await app.operate_on_jobs(caller.organization, _accept, app, caller.organization, given)
    location = {"Location": f"{BACKFILLS_PATH}/{job.id}"}
    return success(202, "Backfill accepted", encode(_shown(job)), location)


@router.head(BACKFILLS_PATH, include_in_schema=False)
@router.get(
    BACKFILLS_PATH,
    operation_id="listBackfills",
    summary="List the organization's latest backfills, newest first",
    responses={
        200: {"model": Done[list[BackfillState]], "description": "At most 100 backfills."},
        **error_responses(400),
    },
)
async def list_backfills(request: Request, app: App, caller: MayRead) -> Response:
    refuse_query(request)
    which = JobFilter(caller.organization, "backfill")
    found = await app.readers.run(app.jobs.list, which, _LISTED)
    return success(200, "Backfills", encode([_shown(each) for each in found]))


@router.head(BACKFILLS_PATH + "/{id}", include_in_schema=False)
@router.get(
    BACKFILLS_PATH + "/{id}",
    operation_id="getBackfill",
    summary="Show a backfill and its progress",
    responses={200: {"model": Done[BackfillState], "description": "The backfill."}, **error_responses(400, 404)},
    openapi_extra={"parameters": PATH_ID},
)
async def show_backfill(request: Request, app: App, caller: MayRead, key: PathId) -> Response:
    refuse_query(request)
    job = await app.readers.run(app.jobs.get, key, caller.organization, "backfill")
    return success(200, "Backfill", encode(_shown(job)))


@router.delete(
    BACKFILLS_PATH + "/{id}",
    operation_id="cancelBackfill",
    summary="Cancel a backfill",
    responses={
        200: {"model": Done[BackfillState], "description": "The backfill was cancelled, or had finished before."},
        **error_responses(400, 403, 404),
    },
    openapi_extra={"parameters": PATH_ID},
)
async def cancel_backfill(request: Request, app: App, caller: MayExport, key: PathId) -> Response:
    """No more requests are accepted. Requests that were accepted before still get their outcomes."""
    refuse_query(request)
    job = await app.operate_on_jobs(caller.organization, _cancel, app, caller.organization, key)
    return success(200, "Backfill", encode(_shown(job)))


def _accept(app: Container, organization: ObjectId, given: dict[str, Any]) -> Job:
    return accept_backfill(app.jobs, organization, given, enqueue=True)


def _cancel(app: Container, organization: ObjectId, key: ObjectId) -> Job:
    app.jobs.get(key, organization, "backfill")
    app.jobs.cancel(key, organization)
    return app.jobs.get(key, organization, "backfill")
