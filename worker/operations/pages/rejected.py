"""Rejected intake entries: a list without their content, and a page on which to correct one and resubmit it."""

import re
from urllib.parse import urlencode

from fastapi import Response
from fastapi.responses import RedirectResponse

from worker.errors import InvalidRequest, NotResolvedYet, Refused, SnapshotError
from worker.intake.entries import REQUESTED, RESOLVED
from worker.log import get_logger
from worker.operations.data.rejected_entries import RejectedEntry
from worker.operations.data.resubmission import AlreadyResubmitted
from worker.operations.web.endpoint import PageRequest
from worker.operations.web.forms import check, invalid
from worker.operations.web.rendering import HEADERS
from worker.operations.web.session import ROOT

log = get_logger(__name__)

_PAGE_SIZE = 50
_TYPES = (REQUESTED, RESOLVED)
_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})", re.ASCII)
_ID_PARTS = range(2**64)
"""The numbers in a stream id; 0-0 is no valid id. https://redis.io/docs/latest/develop/data-types/streams/"""


async def show_list(request: PageRequest) -> Response:
    """List rejected entries, newest first."""
    after = _check_entry_id("after", request.form["after"]) if request.form["after"] else None
    backend = request.backend
    entries, cursor = await request.read(backend.rejected_entries.page, request.viewer.organization, _PAGE_SIZE, after)
    return request.render(
        "rejected",
        entries=entries,
        cursor=cursor,
        is_first_page=after is None,
        resubmitted=request.form["resubmitted"][:100],
    )


async def show_one(request: PageRequest) -> Response:
    """Show one entry with its content in a form."""
    try:
        entry = await _find(request)
    except AlreadyResubmitted as error:
        return _redirect_to(error.result)
    return _render_form(request, entry, entry.type, entry.data)


async def resubmit(request: PageRequest) -> Response:
    """Accept the corrected entry, or show what is still wrong with it."""
    entry_type, data = request.form["type"], request.form["data"]
    check("type", entry_type in _TYPES, f"should be {' or '.join(_TYPES)}")
    backend = request.backend
    try:
        entry = await _find(request)
        try:
            result = await backend.change(
                request.organization,
                backend.resubmission.resubmit,
                entry,
                entry_type,
                data,
                request.viewer.organization,
            )
        except AlreadyResubmitted:
            raise
        except (InvalidRequest, Refused, NotResolvedYet) as error:
            return _render_form(request, entry, entry_type, data, error)
    except AlreadyResubmitted as error:
        return _redirect_to(error.result)
    log.info("rejected_entry_resubmitted", entry=entry.id, result=result, user_id=str(request.viewer.caller.user))
    return _redirect_to(result)


async def _find(request: PageRequest) -> RejectedEntry:
    key = _check_entry_id("id", request.request.path_params["id"])
    return await request.read(request.backend.resubmission.find, key, request.viewer.organization)


def _check_entry_id(field: str, given: str) -> str:
    """Return the id of a stream entry. Raises InvalidRequest."""
    match = _ID.fullmatch(given)
    parts = [int(part) for part in match.groups()] if match else []
    if not any(parts) or not all(part in _ID_PARTS for part in parts):
        raise invalid(field, "should be the id of a stream entry, such as 1716042600000-0")
    return given


def _render_form(
    request: PageRequest, entry: RejectedEntry, entry_type: str, data: str, error: SnapshotError | None = None
) -> Response:
    status, faults = 200, []
    if isinstance(error, InvalidRequest):
        status, faults = 422, error.errors
    elif error:
        status, faults = 409, [{"field": error.code, "message": error.message}]
    return request.render(
        "entry", status, entry=entry, selected_type=entry_type, data=data, types=_TYPES, faults=faults
    )


def _redirect_to(result: str) -> Response:
    """Redirect to the request that the entry became, or to the list if a policy skipped it."""
    is_request = re.fullmatch(r"[0-9a-f]{24}", result)
    path = f"{ROOT}/requests/{result}" if is_request else f"{ROOT}/rejected"
    return RedirectResponse(f"{path}?{urlencode({'resubmitted': result})}", 303, HEADERS)
