"""A contact is erased while requests for the contact come in through every entry point."""

import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymongo
import redis
from pymongo.errors import PyMongoError

from chaos.context import Context
from chaos.dataset import COMPLETED, Contact, PlannedRequest
from chaos.journal import ACCEPTED
from support.erasing import places_of
from worker.bootstrap import build
from worker.erasure.accepting import accept_erasure
from worker.errors import SnapshotError
from worker.jobs.store import Jobs
from worker.settings import Settings

_EACH = 8
"""Requests through each entry point before the erasure, and after it."""
_FIRST_SECONDS = 20.0
_ERASE_SECONDS = 60.0
_SEARCH_SECONDS = 30.0
_AT_ONCE = ("http", "bulk")
"""Channels whose answer says whether the request was accepted."""


def erase_contact(context: Context) -> str:
    """Erases a contact between two series of requests; the second one must make nothing."""
    if context.driver is None or context.dataset is None:
        raise LookupError("the driver does not run")
    person = context.dataset.people.pop()
    _send_all(context, person)
    made = _wait_for_a_snapshot(context, person)
    _erase(context, person)
    context.strike()
    context.erased.append(person)
    try_again(context, person)
    return f"{_EACH} requests through each of {len(context.driver.channels)} channels, {made} snapshots before it"


def try_again(context: Context, person: Contact) -> None:
    """Asks for snapshots of an erased contact; notes each request that was accepted."""
    for channel in _send_all(context, person):
        context.collector.violations.append(f"a request for an erased contact was accepted through {channel}")


def _send_all(context: Context, person: Contact) -> list[str]:
    """Sends requests through each channel; returns those that were accepted at once."""
    assert context.driver is not None
    assert context.dataset is not None
    accepted = []
    for number in range(_EACH):
        for channel, send in context.driver.channels.items():
            if channel == "closing":
                _open_again(context.system.settings, person)
            ((kind, _),) = send([_request(context, person, channel, number)])
            if kind == ACCEPTED and channel in _AT_ONCE:
                accepted.append(channel)
        context.pause(0.2)
    return accepted


def _request(context: Context, person: Contact, channel: str, number: int) -> PlannedRequest:
    ids = {"organizationId": str(person.organization), "conversationId": str(person.conversation)}
    body: dict[str, Any] = ids
    if channel != "closing":
        body = {**ids, "contactId": str(person.id), "notes": f"{' '.join(person.texts)}, {number}"}
    token = f"e{3 * number}"  # closings whose number is divisible by 3 add an intake entry
    request_id = f"erased-{next(context.numbers)}"
    return PlannedRequest(token, channel, body, COMPLETED, len(person.messages), request_id)


def _open_again(settings: Settings, person: Contact) -> None:
    """Opens the conversation, so that the next closing is a new one."""
    with contextlib.suppress(PyMongoError), _mongo(settings) as mongo:
        one = {"_id": person.conversation}
        opened = {"isResolved": False, "updatedAt": datetime.now(UTC)}
        mongo[settings.mongo_database].conversations.update_one(one, {"$set": opened})


def _wait_for_a_snapshot(context: Context, person: Contact) -> int:
    """Waits until the contact has a snapshot, unless other faults prevent it; returns how many there are."""
    settings = context.system.settings
    deadline, made = time.monotonic() + _FIRST_SECONDS, 0
    with _mongo(settings) as mongo:
        while not made and time.monotonic() < deadline and not context.stop.is_set():
            with contextlib.suppress(PyMongoError):
                snapshots = mongo[settings.mongo_database][settings.snapshots_collection]
                made = snapshots.count_documents({"contactId": person.id})
            context.pause(0.2)
    return made


def _erase(context: Context, person: Contact) -> None:
    """Accepts the erasure, again while a server does not answer: a repeat returns the one in progress."""
    service = build(context.system.settings)
    deadline = time.monotonic() + _ERASE_SECONDS
    try:
        while True:
            try:
                accept_erasure(Jobs(service), person.organization, person.id)
            except SnapshotError:
                if time.monotonic() > deadline:
                    raise
                context.pause(0.5)
            else:
                return
    finally:
        service.connections.close()


def _mongo(settings: Settings) -> pymongo.MongoClient[Any]:
    return pymongo.MongoClient(settings.mongo_url, w="majority", serverSelectionTimeoutMS=3000, timeoutMS=10_000)


# --- at the end ---------------------------------------------------------------------------------------------


def findings(settings: Settings, people: list[Contact]) -> list[str]:
    """Returns what is wrong once everything is settled: erasures without a receipt, and what is left of a person."""
    wrong: list[str] = []
    with _mongo(settings) as mongo, settings.redis.client(socket_timeout=30) as broker:
        database = mongo[settings.mongo_database]
        unfinished = {"kind": "erasure", "status": {"$ne": "completed"}}
        jobs = database[settings.jobs_collection].find(unfinished, {"status": 1, "error": 1})
        wrong += [f"an erasure is {job['status']}, {job.get('error')}" for job in jobs]
        wrong += [
            f"contact {person.id} is still in {', '.join(places)}"
            for person in people
            if (places := _places(database, broker, person))
        ]
    return wrong


def _places(database: Any, broker: "redis.Redis", person: Contact) -> list[str]:
    """Where a person's identifiers are, also after what still runs has had time to end."""
    deadline = time.monotonic() + _SEARCH_SECONDS
    needles: list[str | bytes] = [str(person.id), person.id.binary, *person.texts]
    while places := places_of(database, broker, Path("nowhere"), *needles):
        if time.monotonic() > deadline:
            return places
        time.sleep(1.0)
    return []
