"""The HTTP API as a real process, and tokens for it."""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
from bson import ObjectId

from worker.local.processes import Child
from worker.settings import PREFIX, Settings

SECRET = "a secret of the tests that is long enough"
SNAPSHOTS = "/api/training/snapshots"
EXPORT = "/api/training/export"
BACKFILLS = "/api/training/backfills"
EXPORTS = "/api/training/exports"
STATISTICS = "/api/training/stats"

COMMAND = [sys.executable, "-c", "from worker.cli import main; main(prog_name='snapshots')"]


def token(organization: ObjectId, role: str = "ADMIN", secret: str = SECRET, **claims: Any) -> str:
    """A JWT. A claim that is None is omitted."""
    whole = {
        "organizationId": str(organization),
        "id": str(ObjectId()),
        "accessRole": role,
        "exp": int(time.time()) + 600,
        **claims,
    }
    return jwt.encode({name: value for name, value in whole.items() if value is not None}, secret, "HS256")


def bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


@contextmanager
def api(
    settings: Settings, folder: Path, env: Mapping[str, str | None] | None = None, prefix: Sequence[str] = ()
) -> Iterator[tuple[str, Child]]:
    """The URL of an API process, and the process.

    `env`: further settings in capitals, without their prefix; None unsets one. `prefix`: a program that starts it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "api.log"
    own = {"JWT_SECRET": SECRET, "LOG_FORMAT": "json", "API_RATE_LIMIT": "0", **(env or {})}
    environment = {
        f"{PREFIX}REDIS_URL": settings.redis_url,
        f"{PREFIX}MONGO_URL": settings.mongo_url,
        f"{PREFIX}MONGO_DATABASE": settings.mongo_database,
        **{f"{PREFIX}{name}": value for name, value in own.items() if value is not None},
    }
    child = Child("api", [*prefix, *COMMAND, "api", "--port", "0", "--json"], environment, output)
    child.ready = lambda: "startup complete" in child.output()
    child.start()
    try:
        child.wait_until_ready(60)
        ready = json.loads(next(line for line in output.read_text().splitlines() if line.startswith('{"ready"')))
        yield ready["api"], child
    finally:
        child.stop(5)


def client(url: str, value: str) -> httpx.Client:
    """An HTTP client with this token, for any number of threads.

    It keeps every connection: to keep to a limit, httpcore closes idle ones, even one that a thread has just taken.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=None)
    return httpx.Client(base_url=url, headers=bearer(value), timeout=30, limits=limits)
