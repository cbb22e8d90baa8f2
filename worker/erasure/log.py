"""The log of erasures outside the database, from which tombstones are written again after a restore.

An entry is a JSON object: `hash` (the `_id` of the tombstone), `organizationId`, `erasedAt`, `redactMentions` if that
was requested, `liftedAt` if it was lifted. The last entry of a hash counts. No entry holds personal data.
"""

import json
from datetime import datetime
from typing import Any

from bson import ObjectId

from worker.clock import to_json
from worker.erasure.log_places import VARIABLE, LogPlace, open_log
from worker.log import get_logger
from worker.service import Service
from worker.settings import Settings
from worker.stores.connections import Document, store_errors

__all__ = ["VARIABLE", "append", "check", "missing", "read"]

log = get_logger(__name__)


def check(settings: Settings) -> None:
    """Check that entries can be added to the log that the settings name, if they name one.

    Raises InvalidSettings, DestinationUnavailable.
    """
    if place := open_log(settings):
        place.check()


def append(settings: Settings, tombstone: Document) -> None:
    """Add an entry durably, unless no log is set. Raises InvalidSettings, DestinationUnavailable."""
    place = open_log(settings)
    if place is None:
        return
    times: Document = {name: to_json(tombstone[name]) for name in ("erasedAt", "liftedAt") if name in tombstone}
    entry: Document = {"hash": tombstone["_id"], "organizationId": str(tombstone["organizationId"]), **times}
    if tombstone.get("redactMentions"):
        entry["redactMentions"] = True
    # Named by time, because the last entry counts.
    kind, at = max(times.items(), key=lambda time: time[1])
    place.append(f"{at.replace(':', '')}-{kind}-{tombstone['_id']}", json.dumps(entry).encode())


def read(place: LogPlace) -> dict[str, Document]:
    """Return the tombstones in the log by hash. Entries that cannot be read are skipped.

    Raises InvalidSettings, DestinationUnavailable.
    """
    found: dict[str, Document] = {}
    for entry in place.entries():
        try:
            tombstone = _tombstone(json.loads(entry))
        except (ValueError, TypeError, KeyError):
            log.warning("erasure_log_line_skipped", bytes=len(entry))
            continue
        found[tombstone["_id"]] = tombstone
    return found


def _tombstone(line: Any) -> Document:
    times = {name: datetime.fromisoformat(line[name]) for name in ("erasedAt", "liftedAt") if name in line}
    if "erasedAt" not in times:
        raise KeyError("erasedAt")
    asked = {"redactMentions": True} if line.get("redactMentions") is True else {}
    return {"_id": str(line["hash"]), "organizationId": ObjectId(line["organizationId"]), **asked, **times}


def missing(service: Service) -> list[Document]:
    """Return the tombstones in the log that are missing in the database, because an older backup was restored.

    Raises InvalidSettings and all TransientErrors.
    """
    place = open_log(service.settings)
    logged = read(place) if place else {}
    if not logged:
        return []
    with store_errors():
        stored = {each["_id"]: each for each in service.tombstones.collection.find()}
    return [each for key, each in logged.items() if _times(stored.get(key, {})) < _times(each)]


def _times(tombstone: Document) -> list[str]:
    return [to_json(tombstone[name]) if name in tombstone else "" for name in ("erasedAt", "liftedAt")]
