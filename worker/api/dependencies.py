"""Dependencies of the endpoints: the container, the caller, the id in the path, the query, the body."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypeVar

from bson import ObjectId
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from worker.api.body import is_small, read_body
from worker.api.container import Container, container_of
from worker.api.queries import ExportQuery, ListQuery, read_query
from worker.api.roles import Right
from worker.api.tokens import Caller
from worker.domain import json_input
from worker.domain.requests import read_object_id
from worker.domain.snapshot_filter import SnapshotFilter
from worker.errors import InvalidRequest

Result = TypeVar("Result")


class Authorize(HTTPBearer):
    """A dependency that returns the caller if its role has the right. Raises Unauthorized, RateLimited, Forbidden."""

    def __init__(self, right: Right) -> None:
        description = "A JSON Web Token or an integration key."
        super().__init__(scheme_name="bearer", description=description, auto_error=False)
        self._right = right

    async def __call__(self, request: Request) -> Caller:  # type: ignore[override]
        return await container_of(request).admit(request, self._right)


async def _container(request: Request) -> Container:
    return container_of(request)


async def _path_id(request: Request) -> ObjectId:
    """Return the id in the path. Raises InvalidRequest."""
    try:
        return read_object_id(request.path_params["id"])
    except ValueError as error:
        raise InvalidRequest([{"field": "id", "message": str(error)}]) from None


async def _list_query(request: Request) -> ListQuery:
    return read_query(request, ListQuery, container_of(request).settings)


async def _statistics_query(request: Request) -> SnapshotFilter:
    return read_query(request, SnapshotFilter, container_of(request).settings)


async def _export_query(request: Request) -> ExportQuery:
    return read_query(request, ExportQuery, container_of(request).settings)


App = Annotated[Container, Depends(_container)]
MayRead = Annotated[Caller, Depends(Authorize(Right.READ))]
MayWrite = Annotated[Caller, Depends(Authorize(Right.WRITE))]
MayDelete = Annotated[Caller, Depends(Authorize(Right.DELETE))]
MayExport = Annotated[Caller, Depends(Authorize(Right.EXPORT))]
PathId = Annotated[ObjectId, Depends(_path_id)]
ListParameters = Annotated[ListQuery, Depends(_list_query)]
StatisticsParameters = Annotated[SnapshotFilter, Depends(_statistics_query)]
ExportParameters = Annotated[ExportQuery, Depends(_export_query)]


async def _list_slot(app: App, caller: MayRead) -> AsyncIterator[None]:
    """Hold one of the organization's slots until the answer has been sent. Raises TooManyInProgress."""
    async with app.list_slots.hold(caller.organization):
        yield


async def _export_slot(app: App, caller: MayExport) -> AsyncIterator[None]:
    """Hold one of the organization's slots until the answer has been sent. Raises TooManyInProgress."""
    async with app.export_slots.hold(caller.organization):
        yield


async def _statistics_slot(app: App, caller: MayRead) -> AsyncIterator[None]:
    """Hold one of the organization's slots until the answer has been sent. Raises TooManyInProgress."""
    async with app.statistics_slots.hold(caller.organization):
        yield


HoldListSlot = Annotated[None, Depends(_list_slot)]
HoldStatisticsSlot = Annotated[None, Depends(_statistics_slot)]
HoldExportSlot = Annotated[None, Depends(_export_slot)]


async def read_json(request: Request, app: Container, caller: Caller, validate: Callable[[Any], Result]) -> Result:
    """Read the body as JSON, and return the result of `validate`. Raises BodyTooLarge, InvalidRequest.

    FastAPI does not read it, so that size and time are limited and `Content-Type` does not matter. A large body is
    parsed and validated in a thread, and an organization may have only a few of them in progress.
    https://fastapi.tiangolo.com/advanced/path-operation-advanced-configuration/#custom-openapi-path-operation-schema
    """
    limit = app.settings.api_max_body
    if is_small(request):
        return validate(json_input.read_json(await read_body(request, limit), app.settings, limit, "body"))
    async with app.body_slots.hold(caller.organization):
        content = await read_body(request, limit)
        return await app.parsers.run(lambda: validate(json_input.read_json(content, app.settings, limit, "body")))
