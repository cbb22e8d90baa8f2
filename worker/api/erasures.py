"""The erasure endpoints."""

from typing import Any, Literal

from bson import ObjectId
from fastapi import APIRouter, Request, Response
from pydantic import Field

from worker.api.container import Container
from worker.api.dependencies import App, MayDelete, PathId
from worker.api.parameters import ERASE_CONTACT, PATH_ID
from worker.api.queries import ErasureQuery, read_query, refuse_query
from worker.api.responses import CONTACTS_PATH, ERASURES_PATH, encode, success
from worker.api.schemas import DateTime, Done, Id, JobFailure, Shape, error_responses
from worker.erasure.accepting import accept_erasure
from worker.jobs.job import Job

router = APIRouter(tags=["erasures"])

_LOCATION: dict[str, Any] = {"Location": {"description": "the erasure's path", "schema": {"type": "string"}}}


class ErasureState(Shape):
    """An erasure. `receipt` is null until a search of all data has found none of the contact's."""

    id: Id = Field(alias="_id")
    status: Literal["accepted", "running", "completed", "failed", "cancelled"]
    subject: str = Field(description="keyed hash of organization and contact")
    progress: dict[str, Any] = Field(
        description="the current step, and how many documents were removed so far, by place"
    )
    accepted_at: DateTime
    finished_at: DateTime | None
    receipt: dict[str, Any] | None = Field(description="signed with Ed25519; see `snapshots erase verify`")
    error: JobFailure | None


def _shown(job: Job) -> dict[str, Any]:
    return {
        "_id": job.id,
        "status": job.status,
        "subject": job.spec["subject"],
        "progress": dict(job.progress or {}),
        "acceptedAt": job.accepted_at,
        "finishedAt": job.finished_at,
        "receipt": (job.result or {}).get("receipt"),
        "error": job.error,
    }


@router.delete(
    CONTACTS_PATH + "/{id}",
    operation_id="eraseContact",
    status_code=202,
    summary="Erase all data of a contact",
    responses={
        202: {"model": Done[ErasureState], "description": "The erasure was accepted.", "headers": _LOCATION},
        **error_responses(400, 403, 404, 409),
    },
    openapi_extra={"parameters": ERASE_CONTACT},
)
async def erase_contact(request: Request, app: App, caller: MayDelete, key: PathId) -> Response:
    """From now on, no request for the contact is accepted. Poll `Location` until `status` is completed."""
    query = read_query(request, ErasureQuery, app.service.settings)
    organization, user = caller.organization, caller.user
    job = await app.operate_on_jobs(organization, _accept, app, organization, key, user, query.redact_mentions)
    return success(202, "Erasure accepted", encode(_shown(job)), {"Location": f"{ERASURES_PATH}/{job.id}"})


@router.head(ERASURES_PATH + "/{id}", include_in_schema=False)
@router.get(
    ERASURES_PATH + "/{id}",
    operation_id="getErasure",
    summary="Show an erasure and its receipt",
    responses={200: {"model": Done[ErasureState], "description": "The erasure."}, **error_responses(400, 403, 404)},
    openapi_extra={"parameters": PATH_ID},
)
async def show_erasure(request: Request, app: App, caller: MayDelete, key: PathId) -> Response:
    refuse_query(request)
    job = await app.readers.run(app.jobs.get, key, caller.organization, "erasure")
    return success(200, "Erasure", encode(_shown(job)))


def _accept(app: Container, organization: ObjectId, contact: ObjectId, user: ObjectId, redact_mentions: bool) -> Job:
    return accept_erasure(app.jobs, organization, contact, user, redact_mentions=redact_mentions)
