"""The log of erasures: a file outside the database, from which tombstones come back after a restore.

A line is a JSON object: `hash` (the `_id` of the tombstone), `organizationId`, `erasedAt`, `liftedAt` if it was lifted.
The last line of a hash counts. No line holds personal data.
"""

import fcntl
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from bson import ObjectId

from worker.clock import to_json
from worker.errors import InvalidSettings
from worker.log import get_logger
from worker.service import Service
from worker.settings import PREFIX
from worker.stores.connections import Document, store_errors

log = get_logger(__name__)

VARIABLE = f"{PREFIX}ERASURE_LOG"


def append(path: Path | None, tombstone: Document) -> None:
    """Add a line, durably. Raises InvalidSettings."""
    if path is None:
        return
    times: Document = {name: to_json(tombstone[name]) for name in ("erasedAt", "liftedAt") if name in tombstone}
    line: Document = {"hash": tombstone["_id"], "organizationId": str(tombstone["organizationId"]), **times}
    try:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InvalidSettings(f"{VARIABLE}: {path} cannot be written ({error.strerror}).") from None


def read(path: Path) -> dict[str, Document]:
    """Return the tombstones of the log by hash; a line that a crash cut short is skipped. Raises InvalidSettings."""
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as error:
        raise InvalidSettings(f"{VARIABLE}: {path} cannot be read ({error.strerror}).") from None
    found: dict[str, Document] = {}
    for line in lines:
        try:
            tombstone = _tombstone(json.loads(line))
        except (ValueError, TypeError, KeyError):
            log.warning("erasure_log_line_skipped", bytes=len(line))
            continue
        found[tombstone["_id"]] = tombstone
    return found


def _tombstone(line: Any) -> Document:
    times = {name: datetime.fromisoformat(line[name]) for name in ("erasedAt", "liftedAt") if name in line}
    if "erasedAt" not in times:
        raise KeyError("erasedAt")
    return {"_id": str(line["hash"]), "organizationId": ObjectId(line["organizationId"]), **times}


def missing(service: Service) -> list[Document]:
    """Return the tombstones of the log that the database lacks, because it is older."""
    path = service.settings.erasure_log
    logged = read(path) if path else {}
    if not logged:
        return []
    with store_errors():
        stored = {each["_id"]: each for each in service.tombstones.collection.find()}
    return [each for key, each in logged.items() if _times(stored.get(key, {})) < _times(each)]


def _times(tombstone: Document) -> list[str]:
    return [to_json(tombstone[name]) if name in tombstone else "" for name in ("erasedAt", "liftedAt")]
