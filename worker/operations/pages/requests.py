"""The list of requests, and the page of one request."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from bson import ObjectId
from fastapi import Response

from worker.domain.json_values import render
from worker.domain.ledger_entry import FAILED, NEVER, LedgerEntry, is_redrivable, is_unsent
from worker.operations.backend import Backend
from worker.operations.data.request_list import RequestList, read_request_list
from worker.operations.web.endpoint import PageRequest
from worker.operations.web.filters import AGES, STATES, FilterForm, read_filter
from worker.operations.web.forms import object_id
from worker.operations.web.session import ROOT
from worker.stores.outbox import Outbox
from worker.stores.queries import request_by_id
from worker.stores.wakeups import CREATE

PAGE_SIZE = 25


async def show_list(request: PageRequest) -> Response:
    """List the requests that match the filter, newest first, and count them by error code."""
    filter_form = read_filter(request.form, request.viewer)
    after = object_id("after", request.form["after"]) if request.form["after"] else None
    page = await request.read(_read_list, request.backend, filter_form, after)
    return request.render(
        "requests",
        filter_form=filter_form,
        groups=page.groups,
        requests=page.entries,
        cursor=page.cursor,
        redrivable=page.redrivable,
        is_first_page=after is None,
        may_redrive=is_redrivable,
        selectable=filter_form.status == FAILED,
        show_state=False,
        states=STATES,
        ages=AGES,
        path=f"{ROOT}/requests",
    )


def _read_list(backend: Backend, filter_form: FilterForm, after: ObjectId | None) -> RequestList:
    requests = filter_form.requests(backend.connections.clock.now())
    return read_request_list(backend.connections, requests, PAGE_SIZE, after)


async def show_one(request: PageRequest) -> Response:
    """Show one request. Raises NotFound, including for a request of another organization."""
    backend = request.backend
    entry, unsent = await request.read(_read_one, backend, request.id, request.viewer.organization)
    error = entry.get("error") or entry.get("lastError")
    details = error["details"] if error else None
    return request.render(
        "request",
        entry=entry,
        unsent=unsent,
        error=error,
        details=json.dumps(render(details), indent=2, ensure_ascii=False) if details else "",
        history=_history_of(entry),
        state=STATES.get(entry["status"], entry["status"]),
        may_redrive=is_redrivable(entry),
        flower=_flower_address(backend.settings.flower_url, entry["_id"]),
        was_resubmitted=bool(request.form["resubmitted"]),
    )


def _read_one(backend: Backend, key: ObjectId, organization: ObjectId | None) -> tuple[LedgerEntry, bool]:
    """Return a request, and whether its event may not have been emitted. Raises NotFound."""
    entry = request_by_id(backend.connections, key, organization)
    return entry, is_unsent(entry) or Outbox(backend.connections).contains_any([key])


def _history_of(entry: Mapping[str, Any]) -> list[tuple[str, datetime, bool]]:
    """Return (event, time, whether it is still to come), sorted by time."""
    events = {
        "acceptedAt": "accepted",
        "notBefore": "to be enqueued",
        "dueAt": "due",
        "redrivenAt": "redriven",
        "enqueuedAt": "last enqueued",
        "finishedAt": STATES.get(entry["status"], "finished").lower(),
        "deletedAt": "snapshot deleted",
    }
    times = {name: at for name in events if (at := entry.get(name)) and at != NEVER}
    history = [(events[name], at, name == "notBefore") for name, at in times.items()]
    return sorted(history, key=lambda item: item[1])


def _flower_address(base: str | None, request: ObjectId) -> str | None:
    """Return the address in Flower of the tasks that name the request, and of the chunks in which it failed.

    Flower searches for `name:` and the value of the parameter, which may contain further terms (static/js/flower.js).
    """
    return f"{base.rstrip('/')}/tasks?name={quote(f'{CREATE} {request}')}" if base else None
