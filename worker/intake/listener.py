"""The listener accepts the requests of the intake stream into the ledger and wakes the workers.

    read → decode → accept → enqueue → settle (acknowledge or reject)

An entry is acknowledged only once its request is durable in the ledger, or once it is in the stream of rejected
entries. If anything fails in between, it stays pending and is read again, by this listener or by another that claims
it. Redis's list of pending entries is the only record of unfinished work; nothing is kept in this process. Times come
from Redis or from the monotonic clock, never from this process's wall clock.
"""

import os
import random
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from itertools import islice

from worker.errors import BrokerUnavailable, ListenerLost, TransientError
from worker.intake.backlog import Backlog
from worker.intake.batch import Intake
from worker.intake.stream import BATCH_BYTES, IntakeEntry, IntakeStream
from worker.intake.upkeep import StreamUpkeep
from worker.log import get_logger
from worker.service import Service
from worker.stores import indexes
from worker.telemetry.counters import IntakeCounts

log = get_logger(__name__)

_BLOCK = timedelta(seconds=1)
"""How long a read waits for new entries, which delays SIGTERM and upkeep. Below the socket timeout of 5 s."""
_SHORTEST_BLOCK = timedelta(milliseconds=10)
COALESCE_SECONDS = 0.015
"""How long to gather more entries under pressure."""
_TRIM_SECONDS, _FORGET_SECONDS, _LOG_SECONDS = 10.0, 60.0, 10.0
"""How often the stream is trimmed, consumers that are gone are removed, and counts are logged."""
_SHOW_ALIVE_SECONDS = 3.0
"""Interval at which the listener resets its idle time. The doctor counts a listener as dead after 10 s."""
_RETRY_SECONDS = (0.5, 5.0)
"""The first and the longest wait before pending entries are tried again."""
_OUTAGE_SECONDS = (0.1, 2.0)
"""The first and the longest wait while a server is down."""
_CONSUMER_IDLE = timedelta(minutes=10)
_CLAIM_COUNT, _CLAIMED_SECONDS = 100, 0.5
"""How many entries are claimed at once, and for how long they are processed before new entries get their turn."""
_READ_AHEAD_SECONDS = 0.25  # for each batch
_DRAIN_SECONDS = 8.0
"""How long after SIGTERM to process entries that were read ahead. Another listener claims the rest."""
_MAX_STARTS = 3
"""How often listeners may start an entry without finishing it before it is rejected. Its first delivery counts."""


class Listener:
    """One consumer of the intake stream's group. Any number may run at once; each entry is processed by one of them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._settings = service.settings
        self.consumer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._stream = IntakeStream(service.connections, self.consumer)
        self._upkeep = StreamUpkeep(service.connections)
        self._counts = IntakeCounts()
        self._intake = Intake(service, self._stream, self._counts)
        self._batch_size = 5 * self._settings.chunk_size
        self._retry_at: float | None = 0.0
        """When to read this listener's own pending entries again (monotonic clock); None if there are none."""
        self._retry_wait = _RETRY_SECONDS[0]
        self._backlog = Backlog()
        self._claimed: deque[str] = deque()
        self._untried = 0
        """How many of the claimed entries had only waited in their former listener. They are the first ones."""
        self._claim_cursor = "0-0"
        self._due = {"write_log": _LOG_SECONDS + time.monotonic()}
        """When each periodic task is due next, by the monotonic clock. A task that it lacks is due now."""

    def run(self, stop: threading.Event) -> None:
        """Listen until `stop` is set, then finish what was read and leave the group. Survives any outage."""
        if not self._prepare(stop):
            return
        log.info("listening", consumer=self.consumer, stream=self._settings.requests_stream)
        failures = 0
        while not stop.is_set():
            try:
                self._run_once(stop)
            except TransientError as error:
                failures += 1
                if failures == 1:
                    log.warning("listener_interrupted", code=error.code, reason=error.message)
                self._recover(error, failures, stop)
            else:
                if failures:
                    log.info("listener_resumed", interruptions=failures)
                failures = 0
        self._drain()
        self._leave()

    def _prepare(self, stop: threading.Event) -> bool:
        """Create the indexes; return False if `stop` was set before MongoDB could be reached.

        Without the ledger's unique index, two entries of one request would make two requests.
        """
        attempt = 0
        while True:
            try:
                indexes.ensure(self._service.connections)
                self._service.clock.now()
            except TransientError as error:
                if attempt == 0:
                    log.warning("listener_waits_for_store", code=error.code, reason=error.message)
                if stop.wait(_pause(*_OUTAGE_SECONDS, attempt)):
                    return False
                attempt += 1
            else:
                return True

    def _recover(self, error: TransientError, failures: int, stop: threading.Event) -> None:
        self._retry_at = 0.0  # a lost reply has left its batch pending
        if isinstance(error, BrokerUnavailable):
            self._stream.disconnect()
        stop.wait(_pause(*_OUTAGE_SECONDS, failures - 1))

    def _drain(self) -> None:
        stop_at = time.monotonic() + _DRAIN_SECONDS
        try:
            while self._backlog and time.monotonic() < stop_at:
                self._process_held()
        except TransientError as error:
            log.info("entries_left_pending", code=error.code, reason=error.message)

    def _leave(self) -> None:
        self._counts.write_log()
        try:
            self._upkeep.remove_consumer(self.consumer)
        except BrokerUnavailable as error:
            log.info("consumer_not_removed", reason=error.message)

    # --- one round ------------------------------------------------------------------------------------

    def _run_once(self, stop: threading.Event) -> None:
        now = time.monotonic()
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_pending(stop)
        if self._is_due("take_over", now, self._settings.listener_idle.total_seconds() / 3) or self._has_claims:
            self._take_over(stop)
        if self._backlog and self._is_due("keep", now, self._settings.listener_idle.total_seconds() / 3):
            self._stream.reset_idle(self._backlog.ids())
        if self._is_due("show_alive", now, _SHOW_ALIVE_SECONDS):
            self._stream.show_alive()
        if self._is_due("trim", now, _TRIM_SECONDS):
            self._upkeep.trim()
        if self._is_due("forget", now, _FORGET_SECONDS):
            self._upkeep.remove_idle_consumers(_CONSUMER_IDLE)
        if self._is_due("write_log", now, _LOG_SECONDS):
            self._counts.write_log()
        self._read_new()

    def _is_due(self, task: str, now: float, every: float) -> bool:
        """Return whether a periodic task is due; if so, it is due again in `every` seconds."""
        if now < self._due.get(task, now):
            return False
        self._due[task] = now + every
        return True

    def _read_new(self) -> None:
        if self._backlog:
            self._process_backlog()
            return
        if not (entries := self._stream.wait_for_entry(self._block())):
            return
        more, waiting = self._stream.read_new(self._batch_size - 1)
        entries += more
        if len(entries) == self._batch_size or sum(entry.size for entry in entries) >= BATCH_BYTES:
            self._hold(entries)
            self._process_backlog()
            return
        if self._intake.needs_chunks(len(entries), waiting) and len(entries) < self._settings.chunk_size:
            time.sleep(COALESCE_SECONDS)
            more, waiting = self._stream.read_new(self._batch_size - len(entries))
            entries += more
        self._process(entries, waiting)

    def _process_backlog(self) -> None:
        """Read entries ahead, so that organizations can take turns, and process a batch."""
        stop_at = time.monotonic() + _READ_AHEAD_SECONDS
        waiting = 0
        while not self._backlog.is_full and time.monotonic() < stop_at:
            more, waiting = self._stream.read_new(self._batch_size)
            if not more:
                break
            self._hold(more)
        self._process_held(waiting)

    def _hold(self, entries: Sequence[IntakeEntry]) -> None:
        self._backlog.add(entries)
        self._stream.mark_held([entry.id for entry in entries])

    def _process_held(self, waiting: int = 0) -> None:
        entries = self._backlog.take(self._batch_size)
        self._stream.mark_started([entry.id for entry in entries])
        self._process(entries, waiting + len(self._backlog))

    def _block(self) -> timedelta:
        if self._has_claims:
            return _SHORTEST_BLOCK
        if self._retry_at is None:
            return _BLOCK
        remaining = timedelta(seconds=self._retry_at - time.monotonic())
        return min(_BLOCK, max(_SHORTEST_BLOCK, remaining))

    def _process(self, entries: Sequence[IntakeEntry], waiting: int = 0) -> int:
        """Process entries; return how many stay pending. Those are tried again after a while."""
        pending = self._intake(entries, waiting)
        if pending and self._retry_at is None:
            self._retry_wait = _RETRY_SECONDS[0]
            self._retry_at = time.monotonic() + self._retry_wait
        return pending

    def _retry_pending(self, stop: threading.Event) -> None:
        """Process this listener's own pending entries, page by page; retry those that remain after growing waits."""
        after, pending, seen = "0", 0, 0
        waiting = {*self._backlog.ids(), *self._claimed}
        while not stop.is_set() and (ids := self._stream.pending_ids(after, self._batch_size)):
            after = ids[-1]
            left = [entry_id for entry_id in ids if entry_id not in waiting]
            while left and not stop.is_set():
                entries = self._stream.fetch_again(left)
                left = left[len(entries) :]
                seen += len(entries)
                pending += self._process(entries)
        self._retry_wait = _RETRY_SECONDS[0] if pending < seen else min(2 * self._retry_wait, _RETRY_SECONDS[1])
        self._retry_at = time.monotonic() + self._retry_wait * random.uniform(0.8, 1.2) if pending else None

    # --- entries of listeners that died, or hung ------------------------------------------------------

    def _take_over(self, stop: threading.Event) -> None:
        """Claim and process entries for a short time. The rest of them waits until new entries had their turn.

        Entries that had only waited in their listener come first, together. Each of the others may have crashed its
        listener, so it is processed alone, after its start was counted; those with the fewest starts come first.
        """
        stop_at = time.monotonic() + _CLAIMED_SECONDS
        while not stop.is_set() and time.monotonic() < stop_at:
            if not self._claimed and not self._claim():
                return
            while self._claimed and not stop.is_set() and time.monotonic() < stop_at:
                self._process_claimed()

    @property
    def _has_claims(self) -> bool:
        return bool(self._claimed) or self._claim_cursor != "0-0"

    def _claim(self) -> bool:
        """Claim the next entries; return False if there are no more."""
        cursor, ids, lost = self._stream.claim(self._claim_cursor, _CLAIM_COUNT, self._settings.listener_idle)
        if lost:
            log.error("intake_entries_lost", count=len(lost), ids=lost[:20])
            self._counts.lost(len(lost))
        if self._backlog:  # this listener's own entries, after an outage
            own = set(self._backlog.ids())
            ids = [entry_id for entry_id in ids if entry_id not in own]
        if ids:
            log.info("intake_entries_claimed", entries=len(ids))
            held = dict(zip(ids, self._stream.are_held(ids), strict=True))
            starts = dict(zip(ids, self._stream.unfinished_starts(ids), strict=True))
            self._claimed.extend(sorted(ids, key=lambda entry_id: (not held[entry_id], starts[entry_id])))
            self._untried = sum(held.values())
        self._claim_cursor = cursor
        return bool(ids) or cursor != "0-0"

    def _process_claimed(self) -> None:
        done = 1
        if self._untried:
            self._stream.mark_started(ids := list(islice(self._claimed, self._untried)))
            self._process(entries := self._stream.fetch(ids))
            done = len(entries)
            self._untried -= done
        else:
            self._process_suspect(self._claimed[0])
        for _ in range(done):
            self._claimed.popleft()

    def _process_suspect(self, entry_id: str) -> None:
        starts = self._stream.begin(entry_id)
        try:
            (entry,) = self._stream.fetch([entry_id])
            if starts < _MAX_STARTS:
                self._process([entry])
            else:
                log.error("listener_lost", origin=entry_id, starts=starts)
                self._intake.reject(entry, ListenerLost(starts=starts))
        finally:
            self._stream.finish(entry_id)


def _pause(shortest: float, longest: float, attempt: int) -> float:
    return min(longest, shortest * 2.0 ** min(attempt, 10)) * random.uniform(0.7, 1.0)
