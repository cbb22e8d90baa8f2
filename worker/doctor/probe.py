"""One request sent through, each step timed: the same way as a producer's, and nothing of it is left.

    fixture → send → accepted → decided → event → snapshot read → removed

It goes by the intake stream where a listener reads that, else straight into the ledger. Readers of the events see
one of the organization `736e61702d646f63746f7221`, until it is taken out of the stream again.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

import redis

from worker.doctor.findings import Finding, failure, ok, warning
from worker.doctor.fixture import Fixture
from worker.doctor.stream_checks import alive_listeners
from worker.domain.requests import ACCEPTED, COMPLETED, SnapshotRequest
from worker.errors import SnapshotError, TransientError
from worker.intake.entries import DATA_FIELD, REQUESTED, TYPE_FIELD
from worker.metrics.outcomes import DOCTORS
from worker.service import Asked, Service
from worker.stores.connections import Connections, Document, broker_errors, store_errors
from worker.stores.events import FIELD
from worker.stores.wakeups import REQUEST_QUEUES

_POLL = 0.01
_RECENT = 500
"""Events, or messages of a queue, among which its own is looked for."""
_SLOW = timedelta(seconds=5)

Found = TypeVar("Found")


class Probe:
    """Sends one request. `steps`: seconds of each step, in order."""

    def __init__(self, service: Service, patience: float) -> None:
        """`patience`: seconds that acceptance, and then the outcome, may take."""
        self._service = service
        self._connections: Connections = service.connections
        self._names = service.settings
        self._patience = patience
        self._fixture = Fixture(service.connections)
        self._request_id = f"doctor-{uuid4().hex}"
        self._intake_entry: bytes | None = None
        self.steps: dict[str, float] = {}

    def __call__(self) -> Iterator[Finding]:
        """Raises TransientError."""
        self._fixture.remove_old()
        try:
            with self._timed("conversation stored"):
                self._fixture.create()
            yield from self._send_and_follow()
        finally:
            with self._timed("all removed"):
                self._remove()

    def _send_and_follow(self) -> Iterator[Finding]:
        with self._timed("sent"):
            by = self._send()
        with self._timed("accepted"):
            entry = self._wait(self._entry)
        if entry is None:
            yield failure(
                f"The request was not accepted within {self._patience:g} s.", "The listener's log says what keeps it."
            )
            return
        with self._timed("decided"):
            decided = self._wait(lambda: self._entry(decided=True))
        if decided is None:
            yield failure(
                f"The request has no outcome {self._patience:g} s after it was accepted.",
                "See the checks of the workers; their logs say what keeps it.",
            )
            return
        with self._timed("event read"):
            event = self._wait(lambda: self._event(decided["_id"]))
        yield from self._judge(decided, event, by)

    def _judge(self, entry: Document, event: Any, by: str) -> Iterator[Finding]:
        if entry["status"] != COMPLETED:
            error = entry["error"]
            yield failure(f"The request failed: {error['message']} ({error['code']})", "The worker's log says more.")
            return
        with self._timed("snapshot read"):
            snapshot = self._service.snapshots.get(DOCTORS, entry["snapshotId"])
        if snapshot is None or snapshot["messageCount"] != 1:
            yield failure("The snapshot is not there, or is not whole.", "Report this with the worker's log.")
        elif event is None:
            yield failure(
                f"The event is not in {self._names.events_stream}.", "See the check of Redis; the sweep emits it again."
            )
        else:
            total = sum(self.steps[name] for name in ("sent", "accepted", "decided", "event read"))
            said = f"one request went {by} to its event in {total * 1000:,.0f} ms"
            slow = total > _SLOW.total_seconds()
            yield warning(f"Slow: {said}.", "More workers, if the queues are long.") if slow else ok(said)

    # --- steps ----------------------------------------------------------------------------------------

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.steps[name] = time.monotonic() - began

    def _wait(self, look: Callable[[], Found | None]) -> Found | None:
        stop_at = time.monotonic() + self._patience
        while (found := look()) is None and time.monotonic() < stop_at:
            time.sleep(_POLL)
        return found

    def _send(self) -> str:
        """What way it went."""
        body = {
            "organizationId": str(DOCTORS),
            "contactId": str(self._fixture.contact),
            "conversationId": str(self._fixture.conversation),
            "requestId": self._request_id,
        }
        if not alive_listeners(self._connections):
            asked = Asked(SnapshotRequest.read(body, self._names), self._request_id, "client")
            self._service.submit(asked)
            return "from the ledger"
        fields: Any = {TYPE_FIELD: REQUESTED, DATA_FIELD: json.dumps(body)}
        with broker_errors():
            added: Any = self._connections.redis.xadd(self._names.requests_stream, fields)
        self._intake_entry = added
        return "from the intake stream"

    def _entry(self, *, decided: bool = False) -> Document | None:
        with store_errors():
            found = self._service.ledger.at_majority.find_one(
                {"organizationId": DOCTORS, "requestId": self._request_id}
            )
        return None if found and decided and found["status"] == ACCEPTED else found

    def _event(self, key: Any) -> bytes | None:
        """The id of its entry in the stream."""
        return next(iter(self._events(str(key))), None)

    def _events(self, key: str) -> list[bytes]:
        stream = self._names.events_stream
        with broker_errors():
            found: Any = self._connections.redis.xrevrange(stream, count=_RECENT)
        return [entry for entry, fields in found if f'"{key}.'.encode() in fields.get(FIELD.encode(), b"")]

    # --- nothing is left ------------------------------------------------------------------------------

    def _remove(self) -> None:
        """What a server that is away keeps, the next doctor removes."""
        try:
            entry = self._entry()
            self._fixture.remove()
            self._remove_from_redis(str(entry["_id"]) if entry else None)
        except TransientError as error:
            raise SnapshotError(f"What was sent could not be removed: {error.message}") from error

    def _remove_from_redis(self, key: str | None) -> None:
        client: Any = self._connections.redis
        if key:
            with broker_errors():
                for event in self._events(key):
                    client.xdel(self._names.events_stream, event)
                for queue in REQUEST_QUEUES:
                    for message in client.lrange(queue, 0, _RECENT):
                        if key.encode() in message:
                            client.lrem(queue, 1, message)
        if self._intake_entry and self._is_settled(self._intake_entry):
            with broker_errors():
                client.xdel(self._names.requests_stream, self._intake_entry)

    def _is_settled(self, entry: bytes) -> bool:
        """Not in a listener's hands: it would take an entry that is gone for one that was lost."""
        stream, group = self._names.requests_stream, self._names.consumer_group
        with broker_errors():
            try:
                pending: Any = self._connections.redis.xpending_range(stream, group, entry, entry, 1)
            except redis.ResponseError:
                return True
        return not pending
