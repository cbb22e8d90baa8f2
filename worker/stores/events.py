"""Completion events: CloudEvents 1.0 as JSON on a Redis stream.

An event is made of its ledger entry alone, so that every repeat has the same id and content.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pydantic_core
from bson import ObjectId

from worker.clock import to_json
from worker.domain.requests import COMPLETED
from worker.domain.traceparent import TRACEPARENT
from worker.stores.connections import Connections, broker_errors

SOURCE = "/training/snapshots"
COMPLETED_TYPE = "training.snapshot.completed"
"""Fires once the snapshot can be read: after the transaction that stored it, or found it unchanged."""
FAILED_TYPE = "training.snapshot.failed"
"""Fires once the failure is in the ledger; a redrive may still turn it into a completion of the next round."""
FIELD = "event"
_ATTRIBUTES = {"id", "type", "time", "data"}
"""What makes something in the stream an event to us."""


def event_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The CloudEvent of a finished ledger entry: ids and labels, no text of the conversation, no names, no notes."""
    data: dict[str, Any] = {
        "organizationId": str(entry["organizationId"]),
        "requestId": entry["requestId"],
        "contactId": _text(entry.get("contactId")),
        "conversationId": _text(entry.get("conversationId")),
        "trigger": entry["trigger"],
    }
    if entry["status"] == COMPLETED:
        subject = str(entry["snapshotId"])
        data["messageCount"] = entry["messageCount"]
        data["quality"] = entry.get("quality")
        data["category"] = entry.get("category")
        data["tags"] = entry.get("tags", [])
        if entry.get("unchanged"):
            data |= {"unchanged": True, "snapshotId": subject}
    else:
        subject = str(entry["_id"])
        data["error"] = entry["error"]
    return {
        "specversion": "1.0",
        "id": f"{entry['_id']}.{entry['round']}",
        "source": SOURCE,
        "type": COMPLETED_TYPE if entry["status"] == COMPLETED else FAILED_TYPE,
        "subject": subject,
        "time": to_json(entry["finishedAt"]),
        "datacontenttype": "application/json",
        **({TRACEPARENT: entry[TRACEPARENT]} if TRACEPARENT in entry else {}),
        "data": data,
    }


def rejection(reason: Mapping[str, Any], original: Mapping[Any, Any], origin: str) -> dict[str, str]:
    """The fields of an entry in the stream of refused ones; ASCII, since UTF-8 cannot encode lone surrogates."""
    # Celery's JSON brings dates, UUIDs, decimals and bytes as such.
    return {"origin": origin, "reason": json.dumps(dict(reason)), "entry": json.dumps(_plain(original), default=str)}


def _text(value: ObjectId | None) -> str | None:
    return None if value is None else str(value)


class Events:
    """The event stream, and the stream of refused intake entries beside it."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._names = connections.settings

    def emit(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """One XADD each, in one pipeline. Raises BrokerUnavailable; some may be in the stream even then."""
        with broker_errors(), self._connections.redis.pipeline(transaction=False) as pipeline:
            for entry in entries:
                pipeline.xadd(self._names.events_stream, {FIELD: pydantic_core.to_json(event_of(entry))})
            pipeline.execute()

    def reject(self, reason: Mapping[str, Any], original: Mapping[str | bytes, Any], origin: str) -> None:
        """A refused intake entry with its reason. It may hold personal data: it is never logged.

        `origin`: the id of the stream entry or Celery message that it came as.
        """
        fields: Any = rejection(reason, original, origin)
        with broker_errors():
            self._connections.redis.xadd(self._names.rejected_stream, fields)

    def trim(self, older_than: timedelta) -> None:
        """Both streams, by age only and by Redis's own clock, whose milliseconds begin an entry's id."""
        with broker_errors():
            seconds, _ = self._connections.redis.time()
            oldest = int((seconds - older_than.total_seconds()) * 1000)
            for stream in (self._names.events_stream, self._names.rejected_stream):
                self._connections.redis.xtrim(stream, minid=str(max(oldest, 0)), approximate=True)

    def read(self, after: str = "-", count: int = 100, block_ms: int | None = None) -> list[tuple[str, dict[str, Any]]]:
        """Stream id and event, in order, behind the id `after`; waits up to `block_ms` if it is given.

        An entry that someone else added, without an event in the field `event`, comes as an empty one.
        """
        stream = self._names.events_stream
        with broker_errors():
            if block_ms is None:
                start = "-" if after == "-" else f"({after}"
                found: Any = self._connections.redis.xrange(stream, min=start, count=count)
            else:
                reply = self._connections.redis.xread({stream: "0" if after == "-" else after}, count, block_ms)
                found = entries_of(reply)
        return [(_decode(key), _read(fields.get(FIELD.encode()))) for key, fields in found]


def entries_of(reply: Any) -> Sequence[Any]:
    """The entries of an XREAD or XREADGROUP of one stream: RESP2 gives pairs, RESP3 a map of lists."""
    if not reply:
        return []
    if isinstance(reply, dict):
        (found,) = reply.values()
        return found[0] if found and isinstance(found[0], list) else found
    return reply[0][1]  # type: ignore[no-any-return]


def _read(given: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(given or b"{}")
    except ValueError:
        return {}
    is_event = isinstance(found, dict) and found.keys() >= _ATTRIBUTES and isinstance(found["data"], dict)
    return found if is_event else {}


def _decode(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _plain(fields: Mapping[Any, Any]) -> dict[str, Any]:
    """What JSON can hold of a stream entry; bytes that are no UTF-8 are shown escaped."""

    def plain(value: Any) -> Any:
        return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value

    return {str(plain(key)): plain(value) for key, value in fields.items()}
