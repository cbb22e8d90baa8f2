"""Measures the latency of `POST /api/training/snapshots`, from just before the request to its 201."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from secrets import token_hex
from typing import Any

import httpx
import jwt
from bson import ObjectId
from pydantic import SecretStr

from benchmarks.dataset import ORGANIZATIONS, Document, bodies
from benchmarks.pacing import evenly
from benchmarks.pipeline import pipeline
from benchmarks.session import Session
from worker.local.data_folder import data_folder
from worker.local.login import login
from worker.local.stack import api

_START_SECONDS = 60.0
_TOKEN_SECONDS = 3600
_IN_HEAD = {"organizationId", "userId", "requestId"}
"""Fields of a request that the token or a header has."""


def posted(session: Session, rate: float, count: int) -> list[float]:
    """Return the seconds that each POST took, sent one at a time at `rate` a second."""
    with pipeline(session) as running, _clients(session) as clients:

        def post(body: Document) -> None:
            fields = {key: value for key, value in body.items() if key not in _IN_HEAD}
            key = {"Idempotency-Key": body["requestId"]}
            clients[body["organizationId"]].post("/api/training/snapshots", json=fields, headers=key).raise_for_status()

        calls = evenly(list(bodies(count, session.options.amounts.contacts, "post")), rate, post)
        running.check(count)
    return [after - before for _, before, after in calls]


@contextmanager
def _clients(session: Session) -> Iterator[dict[str, httpx.Client]]:
    """Run the API; yield a client for each organization, whose connection stays open."""
    secret = token_hex(32)
    settings = session.settings.model_copy(update={"jwt_secret": SecretStr(secret)})
    with data_folder() as folder, login(settings, folder) as made, ExitStack() as stack:
        child = api(folder.path, session.environment, made)
        stack.callback(child.kill)
        child.start()
        child.wait_until_ready(_START_SECONDS)
        yield {
            str(each): stack.enter_context(httpx.Client(base_url=made.url, headers=_head(each, secret), timeout=60))
            for each in ORGANIZATIONS
        }


def _head(organization: ObjectId, secret: str) -> dict[str, str]:
    claims: dict[str, Any] = {"organizationId": str(organization), "id": str(ObjectId()), "accessRole": "ADMIN"}
    return {"Authorization": f"Bearer {jwt.encode({**claims, 'exp': int(time.time()) + _TOKEN_SECONDS}, secret)}"}
