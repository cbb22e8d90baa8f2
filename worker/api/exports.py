"""The export endpoints."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from worker.api.container import container_of
from worker.api.dependencies import App, MayExport, PathId, read_json
from worker.api.export_schemas import ExportJob
from worker.api.exporter import ExportListQuery, blocks
from worker.api.parameters import EXPORT_FILE, EXPORT_ID
from worker.api.queries import read_query, refuse_query
from worker.api.responses import EXPORTS_PATH, encode, success
from worker.api.schemas import (
    ATTACHMENT,
    EXPORT_LOCATION,
    DeletedResponse,
    Done,
    error_responses,
)
from worker.exports.showing import shown
from worker.exports.spec import ExportSpec

router = APIRouter(tags=["exports"])


async def _query(request: Request) -> ExportListQuery:
    return read_query(request, ExportListQuery, container_of(request).settings)


@router.post(
    EXPORTS_PATH,
    status_code=202,
    operation_id="createExport",
    summary="Export snapshots to files that trainers read",
    responses={
        202: {"model": Done[ExportJob], "description": "The export was accepted.", "headers": EXPORT_LOCATION},
        **error_responses(400, 403, 409, 413),
    },
)
async def create(request: Request, app: App, caller: MayExport) -> Response:
    """Poll `Location` until `status` is completed, failed or cancelled, or wait for the event."""
    refuse_query(request)
    spec = await read_json(request, app, caller, lambda data: ExportSpec.checked(data, app.settings))
    organization = caller.organization
    job = await app.operate_on_jobs(organization, app.exporter.accept, organization, caller.user, spec)
    return success(202, "Export accepted", encode(shown(job)), {"Location": f"{EXPORTS_PATH}/{job.id}"})


@router.head(EXPORTS_PATH, include_in_schema=False)
@router.get(
    EXPORTS_PATH,
    operation_id="listExports",
    summary="List the organization's exports, newest first",
    responses={
        200: {"model": Done[list[ExportJob]], "description": "A page of the list."},
        **error_responses(400, 403),
    },
)
async def list_exports(app: App, caller: MayExport, query: Annotated[ExportListQuery, Depends(_query)]) -> Response:
    """To get the next page, pass the last id of this page as `after`."""
    return success(200, "Exports", await app.readers.run(app.exporter.page, caller.organization, query))


@router.head(EXPORTS_PATH + "/{id}", include_in_schema=False)
@router.get(
    EXPORTS_PATH + "/{id}",
    operation_id="getExport",
    summary="Show an export: state, progress, counts and files",
    responses={200: {"model": Done[ExportJob], "description": "The export."}, **error_responses(400, 403, 404)},
    openapi_extra={"parameters": EXPORT_ID},
)
async def show(request: Request, app: App, caller: MayExport, key: PathId) -> Response:
    """`progress` shows how far the export is. `counts` and `files` are present once it is completed."""
    refuse_query(request)
    return success(200, "Export", await app.readers.run(app.exporter.show, caller.organization, key))


@router.delete(
    EXPORTS_PATH + "/{id}",
    operation_id="deleteExport",
    summary="Cancel an export, or delete a finished one with its files",
    responses={
        200: {"model": DeletedResponse, "description": "The export was cancelled or deleted."},
        **error_responses(400, 403, 404),
    },
    openapi_extra={"parameters": EXPORT_ID},
)
async def delete(request: Request, app: App, caller: MayExport, key: PathId) -> Response:
    """A cancelled export leaves no files; its record stays until it is deleted as well."""
    refuse_query(request)
    cancelled = await app.operate_on_jobs(caller.organization, app.exporter.delete, caller.organization, key)
    return success(200, "Export cancelled" if cancelled else "Export deleted")


@router.head(EXPORTS_PATH + "/{id}/files/{name:path}", include_in_schema=False)
@router.get(
    EXPORTS_PATH + "/{id}/files/{name:path}",
    operation_id="downloadExportFile",
    summary="Download a file of an export",
    response_class=Response,
    responses={
        200: {
            "description": "The content of the file.",
            "headers": ATTACHMENT,
            "content": {"application/octet-stream": {}},
        },
        **error_responses(400, 403, 404),
    },
    openapi_extra={"parameters": [*EXPORT_ID, *EXPORT_FILE]},
)
async def download(request: Request, app: App, caller: MayExport, key: PathId) -> Response:
    """`name` is one of the names in `files` of the export. The content is streamed."""
    refuse_query(request)
    organization, name = caller.organization, request.path_params["name"]
    file, size = await app.operate_on_jobs(organization, app.exporter.open, organization, key, name)
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name.rpartition('/')[2])}",
        # The current size, because an erasure may have removed ids from the file since the export.
        "Content-Length": str(size),
    }
    if request.method == "HEAD":  # uvicorn would drop the content, but only after all of it was read
        file.close()
        return Response(None, 200, headers, "application/octet-stream")
    return StreamingResponse(blocks(file), 200, headers, "application/octet-stream")
