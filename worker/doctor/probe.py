"""Sends one test request the way a producer does, times each step, and removes everything afterwards.

    fixture → send → accepted → decided → event → snapshot read → removed

The request enters through the intake stream if a listener reads it, otherwise directly through the ledger. Consumers of
the event stream see one event of the organization `736e61702d646f63746f7221` until it is removed again.
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
from worker.domain.ledger_entry import ACCEPTED, COMPLETED, DOCTORS_ORGANIZATION, LedgerEntry
from worker.domain.requests import SnapshotRequest
from worker.errors import SnapshotError, TransientError
from worker.intake.entries import DATA_FIELD, REQUESTED, TYPE_FIELD
from worker.service import NewRequest, Service
from worker.stores.connections import Connections, broker_errors, store_errors
from worker.stores.events import FIELD
from worker.stores.wakeups import REQUEST_QUEUES, Queues

_POLL_SECONDS = 0.01
_SETTLE_SECONDS = 5.0
"""How long to wait until the listener has acknowledged the intake entry; it does so after the request is accepted."""
_RECENT = 500
"""How many recent events, or messages of a queue, are searched for those of the test request."""
_SLOW = timedelta(seconds=5)

Result = TypeVar("Result")


class Probe:
    """Sends one test request. `steps` holds the duration of each step in seconds, in order."""

    def __init__(self, service: Service, patience: float) -> None:
        """`patience`: seconds that the request may take to be accepted, and then to be decided."""
        self._service = service
        self._connections: Connections = service.connections
        self._names = service.settings
        self._patience = patience
        self._fixture = Fixture(service.connections)
        self._request_id = f"doctor-{uuid4().hex}"
        self._intake_entry: bytes | None = None
        self.steps: dict[str, float] = {}

    def __call__(self) -> Iterator[Finding]:
        """Send the test request, and report how far it gets. Raises TransientError."""
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
            entrance = self._send()
        with self._timed("accepted"):
            entry = self._wait(self._ledger_entry)
        if entry is None:
            yield failure(
                f"The request was not accepted within {self._patience:g} s.", "See the listener's log for the reason."
            )
            return
        with self._timed("decided"):
            decided = self._wait(self._decided_entry)
        if decided is None:
            yield failure(
                f"The request has no outcome {self._patience:g} s after it was accepted.",
                "See the check workers, and the workers' logs.",
            )
            return
        with self._timed("event read"):
            event = self._wait(lambda: next(iter(self._events(str(decided["_id"]))), None))
        yield from self._judge(decided, event, entrance)

    def _judge(self, entry: LedgerEntry, event: bytes | None, entrance: str) -> Iterator[Finding]:
        if entry["status"] != COMPLETED:
            error = entry["error"]
            yield failure(f"The request failed: {error['message']} ({error['code']})", "See the worker's log.")
            return
        with self._timed("snapshot read"):
            snapshot = self._service.snapshots.get(DOCTORS_ORGANIZATION, entry["snapshotId"])
        if snapshot is None or snapshot["messageCount"] != 1:
            yield failure("The snapshot is missing or incomplete.", "Report this bug with the worker's log.")
        elif event is None:
            yield failure(
                f"The event is not in {self._names.events_stream}.",
                "See the check redis. The sweep will emit it again.",
            )
        else:
            total = sum(self.steps[name] for name in ("sent", "accepted", "decided", "event read"))
            message = f"one request went {entrance} to its event in {total * 1000:,.0f} ms"
            slow = total > _SLOW.total_seconds()
            yield warning(f"Slow: {message}.", "Add workers if the queues are long.") if slow else ok(message)

    # --- steps ----------------------------------------------------------------------------------------

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.steps[name] = time.monotonic() - began

    def _wait(self, poll: Callable[[], Result | None]) -> Result | None:
        return _wait(poll, self._patience)

    def _send(self) -> str:
        """Send the request; return where it enters, for the finding."""
        body = {
            "organizationId": str(DOCTORS_ORGANIZATION),
            "contactId": str(self._fixture.contact),
            "conversationId": str(self._fixture.conversation),
            "requestId": self._request_id,
        }
        if not alive_listeners(self._connections):
            request = NewRequest(SnapshotRequest.read(body, self._names), self._request_id, "client")
            self._service.submit(request)
            return "from the ledger"
        fields: Any = {TYPE_FIELD: REQUESTED, DATA_FIELD: json.dumps(body)}
        with broker_errors():
            added: Any = self._connections.redis.xadd(self._names.requests_stream, fields)
        self._intake_entry = added
        return "from the intake stream"

    def _ledger_entry(self) -> LedgerEntry | None:
        with store_errors():
            return self._service.ledger.at_majority.find_one(
                {"organizationId": DOCTORS_ORGANIZATION, "requestId": self._request_id}
            )

    def _decided_entry(self) -> LedgerEntry | None:
        entry = self._ledger_entry()
        return None if entry is None or entry["status"] == ACCEPTED else entry

    def _events(self, key: str) -> list[bytes]:
        """Return the ids of the request's entries in the event stream."""
        stream = self._names.events_stream
        with broker_errors():
            found: Any = self._connections.redis.xrevrange(stream, count=_RECENT)
        return [entry for entry, fields in found if f'"{key}.'.encode() in fields.get(FIELD.encode(), b"")]

    # --- removal --------------------------------------------------------------------------------------

    def _remove(self) -> None:
        """Remove everything that the test request has left. If a server is down, the next doctor does it."""
        try:
            entry = self._ledger_entry()
            self._fixture.remove()
            self._remove_from_redis(str(entry["_id"]) if entry else None)
        except TransientError as error:
            raise SnapshotError(f"The test request could not be removed: {error.message}") from error

    def _remove_from_redis(self, key: str | None) -> None:
        client: Any = self._connections.redis
        if key:
            with broker_errors():
                for event in self._events(key):
                    client.xdel(self._names.events_stream, event)
                for queue in REQUEST_QUEUES:
                    for message in Queues(self._connections).newest(queue, _RECENT):
                        if key.encode() in message:
                            client.lrem(queue, 1, message)
        # A listener reports an entry that disappears while it is pending as lost, so wait for the acknowledgement.
        if self._intake_entry and _wait(self._intake_is_settled, _SETTLE_SECONDS):
            with broker_errors():
                client.xdel(self._names.requests_stream, self._intake_entry)

    def _intake_is_settled(self) -> bool | None:
        """True once no listener holds the intake entry any more, otherwise None."""
        entry: Any = self._intake_entry
        stream, group = self._names.requests_stream, self._names.consumer_group
        with broker_errors():
            try:
                pending: Any = self._connections.redis.xpending_range(stream, group, entry, entry, 1)
            except redis.ResponseError:
                return True
        return None if pending else True


def _wait(poll: Callable[[], Result | None], seconds: float) -> Result | None:
    """Return the first result of `poll` that is not None, or None when the time is up."""
    stop_at = time.monotonic() + seconds
    while (result := poll()) is None and time.monotonic() < stop_at:
        time.sleep(_POLL_SECONDS)
    return result
