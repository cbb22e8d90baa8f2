"""Refused intake entries: listed without their content; one's content on its own page, to be corrected."""

import re
from urllib.parse import urlencode

from fastapi import Response
from fastapi.responses import RedirectResponse

from worker.errors import InvalidRequest, NotResolvedYet, Refused, SnapshotError
from worker.intake.entries import REQUESTED, RESOLVED
from worker.log import get_logger
from worker.operations.data.rejected_entries import Rejection, TakenIn
from worker.operations.web.endpoint import Asked
from worker.operations.web.rendering import HEADERS
from worker.operations.web.session import ROOT

log = get_logger(__name__)

_LISTED = 50
_KINDS = (REQUESTED, RESOLVED)
_ID = re.compile(r"([0-9]{1,20})-([0-9]{1,20})", re.ASCII)
_NUMBERS = range(2**64)
"""Of a stream's ids; 0-0 is none. https://redis.io/docs/latest/develop/data-types/streams/"""


def _entry_id(given: str, field: str) -> str:
    found = _ID.fullmatch(given)
    numbers = [int(each) for each in found.groups()] if found else []
    if not any(numbers) or not all(each in _NUMBERS for each in numbers):
        raise InvalidRequest([{"field": field, "message": "should be a stream's id, such as 1716042600000-0"}])
    return given


async def listing(asked: Asked) -> Response:
    after = _entry_id(asked.form["after"], "after") if asked.form["after"] else None
    found, cursor = await asked.desk.do(asked.desk.rejections.page, asked.viewer.organization, _LISTED, after)
    return asked.page(
        "rejected", entries=found, cursor=cursor, first=after is None, taken_in=asked.form["taken-in"][:100]
    )


async def show(asked: Asked) -> Response:
    try:
        entry = await _one(asked)
    except TakenIn as error:
        return _taken_in(error.details["result"])
    return _form(asked, entry, entry.kind, entry.data)


async def take_in(asked: Asked) -> Response:
    """The corrected entry goes the way of the intake; what is still wrong with it is said beside it."""
    kind, data = asked.form["type"], asked.form["data"]
    if kind not in _KINDS:
        raise InvalidRequest([{"field": "type", "message": f"should be {' or '.join(_KINDS)}"}])
    try:
        entry = await _one(asked)
        try:
            result = await asked.desk.do(asked.desk.rejections.take_in, entry, kind, data, asked.viewer.organization)
        except TakenIn:
            raise
        except (InvalidRequest, Refused, NotResolvedYet) as error:
            return _form(asked, entry, kind, data, error)
    except TakenIn as error:
        return _taken_in(error.details["result"])
    log.info("rejected_taken_in", entry=entry.id, result=result, user=str(asked.viewer.caller.user))
    return _taken_in(result)


async def _one(asked: Asked) -> Rejection:
    key = _entry_id(asked.request.path_params["id"], "id")
    return await asked.desk.do(asked.desk.rejections.one, key, asked.viewer.organization)


def _form(asked: Asked, entry: Rejection, kind: str, data: str, error: SnapshotError | None = None) -> Response:
    faults = error.errors if isinstance(error, InvalidRequest) else []
    return asked.page(
        "entry",
        _status(error),
        entry=entry,
        kind=kind,
        data=data,
        kinds=_KINDS,
        faults=faults or ([{"field": error.code, "message": error.message}] if error else []),
    )


def _status(error: SnapshotError | None) -> int:
    if error is None:
        return 200
    return 422 if isinstance(error, InvalidRequest) else 409


def _taken_in(result: str) -> Response:
    """To its request; where the policy makes none, to the list."""
    is_request = re.fullmatch(r"[0-9a-f]{24}", result)
    path = f"{ROOT}/requests/{result}" if is_request else f"{ROOT}/rejected"
    return RedirectResponse(f"{path}?{urlencode({'taken-in': result})}", 303, HEADERS)
