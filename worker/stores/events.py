"""Completion events: CloudEvents 1.0 as JSON on a Redis stream.

An event is built from its ledger entry alone, so that every repeat has the same id and content.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pydantic_core
from bson import ObjectId

from worker.clock import to_json
from worker.domain.ledger_entry import COMPLETED, LedgerEntry
from worker.domain.traceparent import TRACEPARENT
from worker.errors import BrokerUnavailable, ContactErased
from worker.stores.checkpoints import REDIS_CHECKPOINT, Checkpoints
from worker.stores.connections import Connections, broker_errors

SOURCE = "/training/snapshots"
COMPLETED_TYPE = "training.snapshot.completed"
"""Fires when the snapshot is readable: after the transaction that stored it or found it unchanged."""
FAILED_TYPE = "training.snapshot.failed"
"""Fires when the failure is recorded in the ledger. A redrive may still complete the request in its next round."""
FIELD = "event"
EVENT_FIELDS = (
    *(
        "organizationId",
        "requestId",
        "contactId",
        "conversationId",
        "trigger",
        "status",
        "round",
        "finishedAt",
        "unsent",
    ),
    *("snapshotId", "messageCount", "quality", "category", "tags", "unchanged", "redaction", "error", TRACEPARENT),
)
"""The fields of a ledger entry that its event is built from."""
MAX_REJECTION_BYTES = 1_000_000
"""Maximum size of the JSON of a rejected entry."""
_ATTRIBUTES = {"id", "type", "time", "data"}
"""The attributes that an entry of the stream must have to be read as an event."""


def event_of(entry: LedgerEntry) -> dict[str, Any]:
    """Build the CloudEvent of a finished ledger entry. It contains ids and labels, but no message, name or note.

    Args:
        entry: A completed or failed entry that retention has not stripped yet.

    Returns:
        A JSON object as docs/schemas describes it. The same entry always gives the same event.
    """
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
        if "redaction" in entry:
            data["redaction"] = entry["redaction"]
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
    """Build the fields of an entry of the rejected stream, in ASCII, because UTF-8 cannot encode lone surrogates.

    If the contact was erased, the original is left out.
    """
    if reason.get("code") == ContactErased.code:
        original = {}
    return {"origin": origin, "reason": json.dumps(dict(reason)), "entry": _entry_json(original)}


def _entry_json(original: Mapping[Any, Any]) -> str:
    """Encode a rejected entry as JSON. If it exceeds 1 MB, each value is replaced by truncated text."""
    fields = _plain(original)
    # Celery's JSON decodes dates, UUIDs, decimals and bytes.
    text = json.dumps(fields, default=str)
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, default=str) for name, value in fields.items()
    }
    longest = min(MAX_REJECTION_BYTES, max(map(len, (*texts, *texts.values())), default=0))
    while len(text) > MAX_REJECTION_BYTES:
        longest //= 2
        text = json.dumps({key[:longest]: value[:longest] for key, value in texts.items()})
    return text


def _text(value: ObjectId | None) -> str | None:
    return None if value is None else str(value)


class Events:
    """The event stream and the stream of rejected intake entries."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._names = connections.settings
        self._checkpoints = Checkpoints(connections)
        self.instance: str | None = None
        """Digest of the script that identifies the Redis process in use (`worker.sweep.redis_state`), as last read
        from MongoDB."""

    def emit(self, entries: Iterable[LedgerEntry]) -> None:
        """Add the events of these entries to the stream. Raises the same errors as `add`."""
        self.add([event_of(entry) for entry in entries])

    def add(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Add events to the stream of the Redis that the sweeps know, in one pipeline.

        After a failover, the former primary may accept events for a while and then lose them. If a sweep has already
        replayed the events that the new primary lacks, nothing would emit them again. An event therefore counts as
        emitted only if it went to the process that MongoDB names afterwards; `worker.sweep.redis_state` describes how
        a process is identified. Raises BrokerUnavailable, StoreUnavailable, StoreConflict; some events may be on the
        stream even then.
        """
        if self.instance is None:
            self.instance = self._known_instance()
        for _ in range(2):
            known = self.instance
            was_there = self._add_to(known, events)
            self.instance = self._known_instance()
            if self.instance != known:
                continue  # a sweep has found another process in the meantime: add them there
            if was_there:
                return
            break
        raise BrokerUnavailable(
            "This Redis process is not the one that the last sweep saw; the next sweep emits these events."
        )

    def _known_instance(self) -> str | None:
        """Return what the sweeps have recorded, or None before the first sweep."""
        return self._checkpoints.get(REDIS_CHECKPOINT).get("instance")

    def _add_to(self, instance: str | None, events: Sequence[Mapping[str, Any]]) -> bool:
        """Add events; return whether they went to the process `instance`, or True if it is None."""
        with broker_errors(), self._connections.redis.pipeline(transaction=False) as pipeline:
            for event in events:
                pipeline.xadd(self._names.events_stream, {FIELD: pydantic_core.to_json(event)})
            if instance is None:
                pipeline.execute()
                return True
            pipeline.script_exists(instance)
            return bool(pipeline.execute()[-1][0])

    def reject(self, reason: Mapping[str, Any], original: Mapping[str | bytes, Any], origin: str) -> None:
        """Record a rejected intake entry with the reason. It may contain personal data, so it is never logged.

        `origin`: id of the stream entry or Celery message. Raises BrokerUnavailable.
        """
        fields: Any = rejection(reason, original, origin)
        with broker_errors():
            self._connections.redis.xadd(self._names.rejected_stream, fields)

    def trim(self, older_than: timedelta) -> None:
        """Trim both streams by age, on Redis's own clock, which entry ids begin with. Raises BrokerUnavailable."""
        with broker_errors():
            seconds, _ = self._connections.redis.time()
            oldest = int((seconds - older_than.total_seconds()) * 1000)
            for stream in (self._names.events_stream, self._names.rejected_stream):
                self._connections.redis.xtrim(stream, minid=str(max(oldest, 0)), approximate=True)

    def read(self, after: str = "-", count: int = 100, block_ms: int | None = None) -> list[tuple[str, dict[str, Any]]]:
        """Read events from the stream, in order.

        Args:
            after: The stream id behind which to read; `-` for the beginning.
            count: Maximum number of events.
            block_ms: How many milliseconds to wait for the first event. None: do not wait.

        Returns:
            Pairs of stream id and event. An entry without a valid event in its field `event` is an empty object.

        Raises:
            BrokerUnavailable: Redis cannot be reached, or refuses the command.
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
    """Return the entries of an XREAD or XREADGROUP reply for one stream, in RESP2 (pairs) or RESP3 (a map)."""
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
    """Convert a stream entry for JSON; bytes that are not UTF-8 are escaped."""

    def plain(value: Any) -> Any:
        return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value

    return {str(plain(key)): plain(value) for key, value in fields.items()}
