"""The ways in, each as a producer of its kind uses it: `send` gives the answer and the request id, if known by then."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
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

from chaos.dataset import Wanted
from chaos.journal import ACCEPTED, REFUSED, SENT, UNKNOWN
from worker.bootstrap import build
from worker.domain.requests import SnapshotRequest
from worker.errors import Refused, SnapshotError
from worker.service import Asked
from worker.settings import Settings
from worker.stores.wakeups import BULK

Answer = tuple[str, str | None]
Way = Callable[[list[Wanted]], list[Answer]]
"""Most take one request at a time; `bulk` may take many."""

REQUESTS = "snapshots:requests"


def stream(settings: Settings, stack: ExitStack) -> Way:
    """XADD by whoever knows the contract alone."""
    broker = stack.enter_context(_redis(settings))

    def send(wanted: list[Wanted]) -> list[Answer]:
        (one,) = wanted
        data = one.body | ({"requestId": one.request_id} if one.request_id else {})
        try:
            entry: Any = broker.xadd(REQUESTS, {"type": "snapshot.requested", "data": json.dumps(data)})
        except redis.RedisError:
            return [(UNKNOWN, None)]
        return [(SENT, one.request_id or f"stream:{entry.decode()}")]

    return send


def task(settings: Settings, stack: ExitStack) -> Way:
    """A Celery message by name. Its id is made before the first attempt, so that a repeat is the same request."""
    app = stack.enter_context(Celery("producer", broker=settings.redis_url, set_as_current=False))
    app.conf.update(
        task_ignore_result=True,
        broker_transport_options={"socket_timeout": 5, "socket_connect_timeout": 3},
        task_publish_retry=False,
        broker_connection_timeout=3,
    )

    def send(wanted: list[Wanted]) -> list[Answer]:
        (one,) = wanted
        body = one.body | ({"requestId": one.request_id} if one.request_id else {})
        try:
            app.send_task("snapshots.request", args=[body], task_id=one.token, queue="snapshots")
        except (OperationalError, OSError, redis.RedisError):
            return [(UNKNOWN, None)]
        return [(SENT, one.request_id or f"task:{one.token}")]

    return send


def bulk(settings: Settings, stack: ExitStack) -> Way:
    """Straight into the ledger, in chunks: what the bulk commands do."""
    service = build(settings)
    stack.callback(service.connections.close)
    _ = service.connections.mongo  # made once, before the threads

    def send(wanted: list[Wanted]) -> list[Answer]:
        asked = [
            Asked(SnapshotRequest.read(one.body, settings), str(one.request_id), "backfill", BULK) for one in wanted
        ]
        try:
            receipts = service.accept(asked)
        except SnapshotError:
            return [(UNKNOWN, None)] * len(wanted)
        service.enqueue(each for each in receipts if not isinstance(each, SnapshotError))
        return [
            (REFUSED if isinstance(each, Refused) else UNKNOWN, None)
            if isinstance(each, SnapshotError)
            else (ACCEPTED, each.request_id)
            for each in receipts
        ]

    return send


def closing(settings: Settings, stack: ExitStack) -> Way:
    """A conversation is closed in MongoDB, at majority; of some an entry says so as well."""
    mongo = stack.enter_context(
        pymongo.MongoClient[Any](settings.mongo_url, w="majority", serverSelectionTimeoutMS=5000, timeoutMS=10_000)
    )
    conversations = mongo[settings.mongo_database].conversations
    broker = stack.enter_context(_redis(settings))

    def send(wanted: list[Wanted]) -> list[Answer]:
        (one,) = wanted
        key = ObjectId(one.body["conversationId"])
        now = datetime.fromtimestamp(int(time.time() * 1000) / 1000, UTC)
        try:
            conversations.update_one(
                {"_id": key, "isResolved": False}, {"$set": {"isResolved": True, "resolvedAt": now, "updatedAt": now}}
            )
            # The answer of a repeat: what its first attempt wrote.
            found = conversations.with_options(read_concern=pymongo.read_concern.ReadConcern("majority")).find_one(
                {"_id": key}
            )
            if not found or not found.get("resolvedAt"):
                return [(UNKNOWN, None)]
            resolved = found["resolvedAt"].replace(tzinfo=UTC)
            if int(one.token[1:]) % 3 == 0:
                broker.xadd(REQUESTS, {"type": "conversation.resolved", "data": json.dumps(one.body)})
        except (PyMongoError, redis.RedisError):
            return [(UNKNOWN, None)]
        return [(ACCEPTED, f"resolved:{key}:{round(resolved.timestamp() * 1000)}")]

    return send


def http(base: str, secret: str, stack: ExitStack) -> Way:
    """POST with an Idempotency-Key."""
    session = stack.enter_context(httpx.Client(base_url=base, timeout=15))

    def send(wanted: list[Wanted]) -> list[Answer]:
        (one,) = wanted
        claims = {
            "organizationId": one.body["organizationId"],
            "id": "6" * 24,
            "accessRole": "admin",
            "exp": time.time() + 3600,
        }
        headers = {
            "Authorization": f"Bearer {jwt.encode(claims, secret, 'HS256')}",
            "Idempotency-Key": str(one.request_id),
            "Prefer": "respond-async",
        }
        body = {key: value for key, value in one.body.items() if key != "organizationId"}
        try:
            answer = session.post("/api/training/snapshots", json=body, headers=headers)
        except httpx.HTTPError:
            return [(UNKNOWN, None)]
        if answer.status_code in {200, 201, 202}:
            return [(ACCEPTED, one.request_id)]
        return [(UNKNOWN if answer.status_code in {429, 500, 502, 503} else REFUSED, None)]

    return send


def _redis(settings: Settings) -> "redis.Redis":
    return redis.Redis.from_url(
        settings.redis_url, socket_timeout=5, socket_connect_timeout=3, retry=Retry(NoBackoff(), 0)
    )
