"""Redrive: a page that asks for confirmation, the redrive itself, and a page that shows its progress."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from bson import ObjectId
from fastapi import Response
from fastapi.responses import RedirectResponse

from worker.clock import to_json
from worker.domain.ledger_entry import ACCEPTED, COMPLETED, FAILED, LedgerEntry
from worker.log import get_logger
from worker.operations.backend import Backend
from worker.operations.data import redrive as redriving
from worker.operations.pages.requests import PAGE_SIZE
from worker.operations.web.endpoint import PageRequest
from worker.operations.web.filters import STATES, FilterForm, read_filter
from worker.operations.web.forms import exact_time, invalid, natural_number, object_ids, positive_number
from worker.operations.web.rendering import HEADERS
from worker.operations.web.session import ROOT

log = get_logger(__name__)

_REFRESH_SECONDS = 2


@dataclass(frozen=True, slots=True)
class _Selection:
    """The requests to redrive: those with these `ids`, or all that match the filter if `ids` is None."""

    filter: FilterForm
    ids: list[ObjectId] | None


def _read_selection(request: PageRequest) -> _Selection:
    filter_form = read_filter(request.form, request.viewer)
    if filter_form.status != FAILED:
        raise invalid("status", "should be failed: only failed requests can be redriven")
    if request.form["all"]:
        return _Selection(filter_form, None)
    ids = object_ids("id", request.form.all("id"), PAGE_SIZE)
    if not ids:
        raise invalid("selection", "is empty. Go back and select at least one request")
    # The filter may no longer match the requests that were selected under it.
    return _Selection(FilterForm(filter_form.organization, FAILED), ids)


async def confirm(request: PageRequest) -> Response:
    """Ask for confirmation. Counts the requests, and changes nothing."""
    selection = _read_selection(request)
    now, count = await request.backend.count(request.organization, _count, request.backend, selection)
    return request.render(
        "confirm",
        filter_form=selection.filter,
        ids=selection.ids,
        redrivable=count,
        until=to_json(now),
        back=selection.filter.address(f"{ROOT}/requests"),
    )


def _count(backend: Backend, selection: _Selection) -> tuple[datetime, int]:
    now = backend.connections.clock.now()
    requests = selection.filter.requests(now, now)
    return now, redriving.count(backend.service, requests, selection.ids)


async def redrive(request: PageRequest) -> Response:
    """Redrive the requests that were counted, but none that have failed since."""
    selection, backend = _read_selection(request), request.backend
    until = exact_time("until", request.form["until"])
    confirmed = positive_number("count", request.form["count"])
    requests = selection.filter.requests(until, until)
    redriven = await backend.change(
        request.organization, redriving.redrive, backend.service, requests, selection.ids, confirmed, PAGE_SIZE
    )
    log.info("operator_redrive", requests=redriven.count, confirmed=confirmed, user_id=str(request.viewer.caller.user))
    fields = {"total": redriven.count, "of": confirmed, "ids": ",".join(map(str, redriven.first_ids))}
    return RedirectResponse(f"{ROOT}/redriven?{urlencode(fields)}", 303, HEADERS)


async def progress(request: PageRequest) -> Response:
    """Show the state of redriven requests; the page refreshes while some are in flight."""
    ids = object_ids("ids", [given for given in request.form["ids"].split(",") if given], PAGE_SIZE)
    entries = await request.read(_entries, request.backend, ids, request.viewer.organization)
    states = [entry["status"] for entry in entries]
    return request.render(
        "redriven",
        requests=entries,
        selectable=False,
        show_state=True,
        states=STATES,
        total=max(natural_number(request.form["total"]), len(entries)),
        confirmed=natural_number(request.form["of"]),
        completed=states.count(COMPLETED),
        failed=states.count(FAILED),
        in_flight=states.count(ACCEPTED),
        refresh_seconds=_REFRESH_SECONDS,
        refresh=_REFRESH_SECONDS if ACCEPTED in states else None,
    )


def _entries(backend: Backend, ids: Sequence[ObjectId], organization: ObjectId | None) -> list[LedgerEntry]:
    entries = {entry["_id"]: entry for entry in backend.service.ledger.load(ids)}
    in_order = (entries[key] for key in ids if key in entries)
    return [entry for entry in in_order if organization in (None, entry["organizationId"])]
