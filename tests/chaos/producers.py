"""Producers, one for each channel, which use it as its contract says and return an answer and the request id."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import cycle
from typing import Any

import httpx
import jwt
import pymongo
import redis
from bson import ObjectId
from celery import Celery
from kombu.exceptions import OperationalError
from pymongo.errors import PyMongoError
from redis.backoff import NoBackoff
from redis.retry import Retry

from chaos.dataset import COMPLETED, PlannedRequest
from chaos.journal import ACCEPTED, NOT_TAKEN, REFUSED, SENT, UNKNOWN
from worker.bootstrap import build
from worker.domain.requests import SnapshotRequest
from worker.errors import Refused, SnapshotError
from worker.service import NewRequest
from worker.settings import Settings
from worker.stores.wakeups import BULK

Answer = tuple[str, str | None]
Producer = Callable[[list[PlannedRequest]], list[Answer]]
"""Most take one request at a time; `bulk` and `burst` take many."""

REQUESTS = "snapshots:requests"
_PLACES = 20
"""After so many requests the channels repeat."""
_WAIT_SECONDS = 2
"""Maximum time for which a POST waits for its snapshot. It is short, because the driver has few threads."""


def stream(settings: Settings, stack: ExitStack) -> Producer:
    """XADD, with nothing but the contract of the intake stream."""
    broker = stack.enter_context(_redis(settings))

    def send(requests: list[PlannedRequest]) -> list[Answer]:
        (request,) = requests
        try:
            broker.ping()  # one without a request id cannot be repeated, so it is not sent into an outage
        except redis.RedisError:
            return [(NOT_TAKEN, None)]
        try:
            key: Any = broker.xadd(REQUESTS, _entry(request))
        except redis.ResponseError:  # out of memory, read-only, loading
            return [(NOT_TAKEN, None)]
        except redis.RedisError:
            return [(UNKNOWN, None)]
        return [(SENT, request.request_id or f"stream:{key.decode()}")]

    return send


def burst(settings: Settings, stack: ExitStack) -> Producer:
    """Hundreds of XADDs in one pipeline."""
    broker = stack.enter_context(_redis(settings))

    def send(requests: list[PlannedRequest]) -> list[Answer]:
        try:
            with broker.pipeline(transaction=False) as pipeline:
                for request in requests:
                    pipeline.xadd(REQUESTS, _entry(request))
                replies = pipeline.execute(raise_on_error=False)
        except redis.RedisError:
            return [(UNKNOWN, None)] * len(requests)
        return [
            (NOT_TAKEN, None)
            if isinstance(reply, redis.RedisError)
            else (SENT, request.request_id or f"stream:{reply.decode()}")
            for request, reply in zip(requests, replies, strict=True)
        ]

    return send


def _entry(request: PlannedRequest) -> dict[Any, Any]:
    data = request.body | ({"requestId": request.request_id} if request.request_id else {})
    return {"type": "snapshot.requested", "data": json.dumps(data)}


def task(settings: Settings, stack: ExitStack) -> Producer:
    """A Celery message by task name. Its id is set before the first attempt, so that a repeat is the same request."""
    app = stack.enter_context(Celery("producer", set_as_current=False))
    app.conf.update(
        settings.redis.celery_settings({"socket_timeout": 5, "socket_connect_timeout": 3}),
        task_ignore_result=True,
        task_publish_retry=False,
        broker_connection_timeout=3,
    )

    def send(requests: list[PlannedRequest]) -> list[Answer]:
        (request,) = requests
        body = request.body | ({"requestId": request.request_id} if request.request_id else {})
        try:
            app.send_task("snapshots.request", args=[body], task_id=request.token, queue="snapshots")
        except (OperationalError, OSError, redis.RedisError):
            return [(UNKNOWN, None)]
        return [(SENT, request.request_id or f"task:{request.token}")]

    return send


def bulk(settings: Settings, stack: ExitStack) -> Producer:
    """Straight into the ledger, in chunks, as the bulk commands do."""
    service = build(settings)
    stack.callback(service.connections.close)
    _ = service.connections.mongo  # created once, before the threads use it

    def send(requests: list[PlannedRequest]) -> list[Answer]:
        new = [
            NewRequest(SnapshotRequest.read(request.body, settings), str(request.request_id), "backfill", BULK)
            for request in requests
        ]
        try:
            receipts = service.accept(new)
        except SnapshotError:
            return [(UNKNOWN, None)] * len(requests)
        service.enqueue(receipt for receipt in receipts if not isinstance(receipt, SnapshotError))
        return [
            (REFUSED if isinstance(receipt, Refused) else UNKNOWN, None)
            if isinstance(receipt, SnapshotError)
            else (ACCEPTED, receipt.request_id)
            for receipt in receipts
        ]

    return send


def closing(settings: Settings, stack: ExitStack) -> Producer:
    """Closes a conversation in MongoDB at majority, and for some adds an intake entry as well."""
    mongo = stack.enter_context(
        pymongo.MongoClient[Any](settings.mongo_url, w="majority", serverSelectionTimeoutMS=5000, timeoutMS=10_000)
    )
    conversations = mongo[settings.mongo_database].conversations
    broker = stack.enter_context(_redis(settings))

    def send(requests: list[PlannedRequest]) -> list[Answer]:
        (request,) = requests
        key = ObjectId(request.body["conversationId"])
        now = datetime.fromtimestamp(int(time.time() * 1000) / 1000, UTC)
        try:
            conversations.update_one(
                {"_id": key, "isResolved": False}, {"$set": {"isResolved": True, "resolvedAt": now, "updatedAt": now}}
            )
            # A repeat is answered with what the first attempt wrote.
            conversation = conversations.with_options(
                read_concern=pymongo.read_concern.ReadConcern("majority")
            ).find_one({"_id": key})
            if not conversation or not conversation.get("resolvedAt"):
                return [(UNKNOWN, None)]
            resolved = conversation["resolvedAt"].replace(tzinfo=UTC)
            if int(request.token[1:]) % 3 == 0:
                broker.xadd(REQUESTS, {"type": "conversation.resolved", "data": json.dumps(request.body)})
        except (PyMongoError, redis.RedisError):
            return [(UNKNOWN, None)]
        return [(ACCEPTED, f"resolved:{key}:{round(resolved.timestamp() * 1000)}")]

    return send


def http(bases: Sequence[str], secret: str, stack: ExitStack) -> Producer:
    """POST with an Idempotency-Key, to each API in turn. Half of the requests wait for their snapshots."""
    timeout = httpx.Timeout(15, connect=3)
    sessions = cycle(
        [stack.enter_context(httpx.Client(base_url=base, timeout=timeout, trust_env=False)) for base in bases]
    )

    def send(requests: list[PlannedRequest]) -> list[Answer]:
        (request,) = requests
        claims = {
            "organizationId": request.body["organizationId"],
            "id": "6" * 24,
            "accessRole": "admin",
            "exp": time.time() + 3600,
        }
        waits = request.expected == COMPLETED and int(request.token[1:]) // _PLACES % 2 == 0
        headers = {
            "Authorization": f"Bearer {jwt.encode(claims, secret, 'HS256')}",
            "Idempotency-Key": str(request.request_id),
            "Prefer": f"wait={_WAIT_SECONDS}" if waits else "respond-async",
        }
        body = {key: value for key, value in request.body.items() if key != "organizationId"}
        try:
            answer = next(sessions).post("/api/training/snapshots", json=body, headers=headers)
        except httpx.HTTPError:
            return [(UNKNOWN, None)]
        if answer.status_code in {200, 201} and len(answer.json()["data"]["messages"]) != request.messages:
            return [(REFUSED, None)]  # which the checker reports
        if answer.status_code in {200, 201, 202}:
            return [(ACCEPTED, request.request_id)]
        # Only these ask for a repeat. A 500 is an error of ours, which a repeat would hide. A 503 without Retry-After
        # means that a request that was accepted has failed.
        asks_for_repeat = answer.status_code in {429, 503} and "retry-after" in answer.headers
        return [(UNKNOWN if asks_for_repeat else REFUSED, None)]

    return send


def _redis(settings: Settings) -> "redis.Redis":
    return settings.redis.client(socket_timeout=5, socket_connect_timeout=3, retry=Retry(NoBackoff(), 0))
