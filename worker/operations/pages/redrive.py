"""Redrive: first a page that says how many, then those at most, then a page on which to watch them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from bson import ObjectId
from fastapi import Response
from fastapi.responses import RedirectResponse

from worker.clock import to_json
from worker.domain.requests import ACCEPTED, COMPLETED, FAILED
from worker.errors import InvalidRequest
from worker.log import get_logger
from worker.operations.backend import Desk
from worker.operations.data.error_groups import Period
from worker.operations.pages.requests import LISTED
from worker.operations.web.endpoint import Asked
from worker.operations.web.forms import STATES, Choice, choice_of, exact_moment, object_ids
from worker.operations.web.rendering import HEADERS
from worker.operations.web.session import ROOT
from worker.stores.queries import count_redrivable, redrivable

log = get_logger(__name__)

_BATCH = 500
_SECONDS = 20
"""After which a redrive stops, and says how far it came."""


@dataclass(frozen=True, slots=True)
class _Selection:
    """`ids`: those named; None: all of the filter."""

    choice: Choice
    ids: list[ObjectId] | None


def _selection(asked: Asked) -> _Selection:
    choice = choice_of(asked.form, asked.viewer)
    if choice.status != FAILED:
        raise InvalidRequest([{"field": "status", "message": "only failed requests can be redriven"}])
    if asked.form["all"]:
        return _Selection(choice, None)
    ids = object_ids("id", asked.form.all("id"), LISTED)
    if not ids:
        raise InvalidRequest([{"field": "selection", "message": "is empty: go back and tick at least one request"}])
    # Those named are redriven whatever the filter says by now.
    return _Selection(Choice(choice.organization, FAILED, "", "", None, None), ids)


async def confirm(asked: Asked) -> Response:
    """Counts, and changes nothing."""
    selection = _selection(asked)
    moment, count = await asked.desk.do(_count, asked.desk, selection)
    return asked.page(
        "confirm",
        choice=selection.choice,
        ids=selection.ids,
        count_=count,
        until=to_json(moment),
        back=selection.choice.address(f"{ROOT}/requests"),
    )


def _count(desk: Desk, selection: _Selection) -> tuple[datetime, int]:
    now = desk.connections.clock.now()
    return now, count_redrivable(desk.connections, selection.choice.which(now, now), selection.ids)


async def redrive(asked: Asked) -> Response:
    """Those that were counted, and no others: what failed since then is left alone, and no more than the count."""
    selection = _selection(asked)
    until = exact_moment("until", asked.form["until"])
    most = _number(asked.form["count"])
    if not most:
        raise InvalidRequest([{"field": "count", "message": "should be the number that was confirmed"}])
    which = selection.choice.which(until, until)
    done, shown = await asked.desk.do(_redrive, asked.desk, which, selection.ids, most)
    log.info("operator_redrive", requests=done, confirmed=most, user=str(asked.viewer.caller.user))
    watched = {"total": str(done), "of": str(most), "ids": ",".join(str(each) for each in shown)}
    return RedirectResponse(f"{ROOT}/redriven?{urlencode(watched)}", 303, HEADERS)


def _redrive(desk: Desk, which: Period, ids: Sequence[ObjectId] | None, most: int) -> tuple[int, list[ObjectId]]:
    stop_at = time.monotonic() + _SECONDS
    done = looked_at = 0
    shown: list[ObjectId] = []
    for batch in redrivable(desk.connections, which, _BATCH, ids):
        some = batch[: most - looked_at]
        again = desk.service.redrive(some) if some else []
        looked_at += len(some)
        done += len(again)
        shown += [each["_id"] for each in again[: LISTED - len(shown)]]
        if looked_at >= most or time.monotonic() > stop_at:
            break
    return done, shown


def _number(given: str) -> int:
    """0 where it is none."""
    return int(given) if given.isascii() and given.isdecimal() and len(given) < 10 else 0


async def watch(asked: Asked) -> Response:
    """How those that were redriven get on; asks again by itself while some are in flight."""
    given = [each for each in asked.form["ids"].split(",") if each]
    ids = object_ids("ids", given, LISTED)
    found = await asked.desk.do(_entries, asked.desk, ids, asked.viewer.organization)
    states = [each["status"] for each in found]
    total, of = (_number(asked.form[name]) for name in ("total", "of"))
    return asked.page(
        "redriven",
        requests=found,
        choose=False,
        show_state=True,
        states=STATES,
        total=max(total, len(found)),
        of=of,
        completed=states.count(COMPLETED),
        failed=states.count(FAILED),
        in_flight=states.count(ACCEPTED),
        refresh=2 if ACCEPTED in states else None,
    )


def _entries(desk: Desk, ids: Sequence[ObjectId], organization: ObjectId | None) -> list[Mapping[str, Any]]:
    found = {each["_id"]: each for each in desk.service.ledger.load(ids)}
    mine = (found[key] for key in ids if key in found)
    return [each for each in mine if organization in (None, each["organizationId"])]
