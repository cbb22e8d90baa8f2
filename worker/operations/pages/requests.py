"""Requests: by code, listed by page, and each with its attempts and reasons."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from bson import ObjectId
from fastapi import Response

from worker.domain.json_values import render
from worker.domain.requests import COMPLETED, FAILED
from worker.operations.backend import Desk
from worker.operations.data.error_groups import Groups, by_code
from worker.operations.web import charts as plot
from worker.operations.web.endpoint import Asked
from worker.operations.web.forms import AGES, STATES, Choice, choice_of, object_id
from worker.operations.web.rendering import between
from worker.operations.web.session import ROOT
from worker.stores.connections import Document
from worker.stores.queries import count_redrivable, list_requests, request_by_id
from worker.stores.wakeups import CREATE

LISTED = 25
_ORGANIZATIONS = 100


async def overview(asked: Asked) -> Response:
    """How it goes."""
    found = await asked.desk.do(asked.desk.overviews.of, asked.viewer.organization)
    worst_first = sorted(found.identities, key=lambda each: (each.holds, -each.failed, -each.in_flight))
    waits = {name: between(since, found.at) for name, since in (found.waiting.oldest if found.waiting else {}).items()}
    return asked.page(
        "overview",
        found=found,
        rows=worst_first[:_ORGANIZATIONS],
        more=max(len(worst_first) - _ORGANIZATIONS, 0),
        age=between(found.oldest, found.at),
        waits=waits,
        throughput=plot.throughput(found.minutes),
        latency=plot.latency(found.minutes),
        refresh=15 if asked.form["refresh"] else None,
    )


async def listing(asked: Asked) -> Response:
    """Requests of a filter, newest first, and above them how many there are of each code."""
    choice = choice_of(asked.form, asked.viewer)
    after = object_id("after", asked.form["after"]) if asked.form["after"] else None
    groups, found, cursor, redrivable = await asked.desk.do(_read, asked.desk, choice, after)
    return asked.page(
        "requests",
        choice=choice,
        groups=groups,
        requests=found,
        cursor=cursor,
        redrivable=redrivable,
        first=after is None,
        may_redrive=may_redrive,
        choose=choice.status == FAILED,
        show_state=False,
        states=STATES,
        ages=AGES,
        path=f"{ROOT}/requests",
    )


def _read(
    desk: Desk, choice: Choice, after: ObjectId | None
) -> tuple[Groups | None, list[Document], ObjectId | None, int]:
    which = choice.which(desk.connections.clock.now())
    groups = None if choice.status == COMPLETED else by_code(desk.connections, which)
    found, cursor = list_requests(desk.connections, which, LISTED, after)
    redrivable = count_redrivable(desk.connections, which) if choice.status == FAILED and found else 0
    return groups, found, cursor, redrivable


async def one(asked: Asked) -> Response:
    """One request; another organization's is not there."""
    entry = await asked.desk.do(request_by_id, asked.desk.connections, asked.id, asked.viewer.organization)
    details = (entry.get("error") or entry.get("lastError") or {}).get("details")
    return asked.page(
        "request",
        entry=entry,
        times=times_of(entry),
        details=json.dumps(render(details), indent=2, ensure_ascii=False) if details else "",
        state=STATES.get(entry["status"], entry["status"]),
        may_redrive=may_redrive(entry),
        flower=flower_address(asked.desk.settings.flower_url, entry["_id"]),
        notice=asked.form["taken-in"],
    )


def times_of(entry: Mapping[str, Any]) -> list[tuple[str, datetime, bool]]:
    """What is known of when, in order; True: still to come or repeated by a later one."""
    names = {
        "acceptedAt": "accepted",
        "notBefore": "to be enqueued",
        "dueAt": "due",
        "redrivenAt": "redriven",
        "enqueuedAt": "last enqueued",
        "finishedAt": STATES.get(entry["status"], "finished").lower(),
        "deletedAt": "snapshot deleted",
    }
    found = [(said, entry[name], name == "notBefore") for name, said in names.items() if entry.get(name)]
    return sorted(found, key=lambda each: each[1])


def may_redrive(entry: Mapping[str, Any]) -> bool:
    """As the ledger sees it: failed, its event is out, and retention has not stripped it."""
    return entry["status"] == FAILED and not entry.get("unsent") and "contactId" in entry


def flower_address(base: str | None, request: ObjectId) -> str | None:
    """Its tasks in Flower: every attempt, found by the id that Flower shows as their arguments.

    Flower makes a search of `name`: "name:" and the value, which may go on with further terms (static/js/flower.js).
    """
    return f"{base.rstrip('/')}/tasks?name={quote(f'{CREATE} args:{request}')}" if base else None
