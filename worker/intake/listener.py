"""The listener: intake stream → ledger → wake-up calls → acknowledged.

    read → decode → accept → publish → settle

An entry is acknowledged only once its request is durable in the ledger, or once it stands in the stream of
rejected ones. Whatever fails in between stays pending, and is read again: by this listener, or by another
that takes over. Redis's list of pending entries is the only memory of what is left; nothing is kept here.
Times are Redis's or the monotonic clock's, never this process's own.
"""

import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from datetime import timedelta

from worker.errors import BrokerUnavailable, TransientError
from worker.intake.batch import Intake
from worker.intake.stream import Entry, IntakeStream
from worker.log import get_logger
from worker.service import Service
from worker.stores import indexes
from worker.stores.wakeups import INTERACTIVE
from worker.telemetry.counters import IntakeCounts

log = get_logger(__name__)

_BLOCK = timedelta(seconds=1)
"""One wait for new entries; SIGTERM and upkeep wait so long at most. Below the socket's timeout of 5 s."""
_COALESCE_SECONDS = 0.015
"""Under pressure more entries are gathered for so long."""
_TRIM_SECONDS, _FORGET_SECONDS, _LOG_SECONDS = 10.0, 60.0, 10.0
_LEFT_SECONDS = (0.5, 5.0)
"""The first and the longest wait before what was left pending is tried again."""
_DOWN_SECONDS = (0.1, 2.0)
"""The first and the longest wait while a server is down."""
_CONSUMER_IDLE = timedelta(minutes=10)


class Listener:
    """One consumer of the intake stream's group. Any number may run at once."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._settings = service.settings
        self.consumer = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._stream = IntakeStream(service.connections, self.consumer)
        self._counts = IntakeCounts()
        self._intake = Intake(service, self._stream, self._counts)
        self._most = 5 * self._settings.chunk_size
        self._own_at: float | None = 0.0
        """When its own pending entries are read next: at the start, after a fault, while some are left."""
        self._own_wait = _LEFT_SECONDS[0]
        self._due = {"take_over": 0.0, "trim": 0.0, "forget": 0.0, "write_log": _LOG_SECONDS + time.monotonic()}

    def run(self, stop: threading.Event) -> None:
        """Listens until `stop` is set; then finishes its batch and leaves. Goes on by itself after any outage."""
        if not self._prepare(stop):
            return
        log.info("listening", consumer=self.consumer, stream=self._settings.requests_stream)
        failures = 0
        while not stop.is_set():
            try:
                self._turn(stop)
            except TransientError as error:
                failures += 1
                if failures == 1:
                    log.warning("listener_interrupted", code=error.code, reason=error.message)
                self._recover(error, failures, stop)
            else:
                if failures:
                    log.info("listener_goes_on", interruptions=failures)
                failures = 0
        self._leave()

    def _prepare(self, stop: threading.Event) -> bool:
        """The ledger's unique index makes one request of two entries: no accept without it."""
        for attempt in range(1_000_000):
            try:
                indexes.ensure(self._service.connections)
                self._service.clock.now()
            except TransientError as error:
                if attempt == 0:
                    log.warning("listener_waits_for_store", code=error.code, reason=error.message)
                if stop.wait(_pause(_DOWN_SECONDS, attempt)):
                    return False
            else:
                return True
        return False

    def _recover(self, error: TransientError, failures: int, stop: threading.Event) -> None:
        self._own_at = 0.0  # a reply that was lost has left its batch pending
        if isinstance(error, BrokerUnavailable):
            self._stream.disconnect()
        stop.wait(_pause(_DOWN_SECONDS, failures - 1))

    def _leave(self) -> None:
        self._counts.write_log()
        try:
            self._stream.leave()
        except BrokerUnavailable as error:
            log.info("consumer_left_behind", reason=error.message)

    # --- one turn -------------------------------------------------------------------------------------

    def _turn(self, stop: threading.Event) -> None:
        now = time.monotonic()
        if self._own_at is not None and now >= self._own_at:
            self._read_own(stop)
        if self._is_due("take_over", now, self._settings.listener_idle.total_seconds() / 3):
            self._take_over(stop)
        if self._is_due("trim", now, _TRIM_SECONDS):
            self._stream.trim()
        if self._is_due("forget", now, _FORGET_SECONDS):
            self._stream.forget_consumers(_CONSUMER_IDLE)
        if self._is_due("write_log", now, _LOG_SECONDS):
            self._counts.write_log()
        self._read_new()

    def _is_due(self, what: str, now: float, every: float) -> bool:
        if now < self._due[what]:
            return False
        self._due[what] = now + every
        return True

    def _read_new(self) -> None:
        entries = self._stream.read_new(self._most, self._block())
        if not entries:
            return
        waiting = self._stream.waiting(INTERACTIVE)
        if self._intake.is_pressed(len(entries), waiting) and len(entries) < self._settings.chunk_size:
            time.sleep(_COALESCE_SECONDS)
            entries += self._stream.read_new(self._most - len(entries))
        self._take_in(entries, waiting)

    def _block(self) -> timedelta:
        if self._own_at is None:
            return _BLOCK
        left = max(0.01, self._own_at - time.monotonic())
        return min(_BLOCK, timedelta(seconds=left))

    def _take_in(self, entries: Sequence[Entry], waiting: int = 0) -> int:
        """How many of them are left pending; those are read again after a while."""
        left = self._intake(entries, waiting)
        if left and self._own_at is None:
            self._own_wait = _LEFT_SECONDS[0]
            self._own_at = time.monotonic() + self._own_wait
        return left

    def _read_own(self, stop: threading.Event) -> None:
        """Its pending entries, page by page; those that are left are tried again, after growing waits."""
        after, left, seen = "0", 0, 0
        while not stop.is_set() and (entries := self._stream.read_own(after, self._most)):
            after = entries[-1].id
            seen += len(entries)
            left += self._take_in(entries)
        progress = left < seen
        self._own_wait = _LEFT_SECONDS[0] if progress else min(2 * self._own_wait, _LEFT_SECONDS[1])
        self._own_at = time.monotonic() + self._own_wait * random.uniform(0.8, 1.2) if left else None

    def _take_over(self, stop: threading.Event) -> None:
        """Entries of listeners that died, or hang, for longer than the idle time."""
        cursor = "0-0"
        while not stop.is_set():
            cursor, entries, lost = self._stream.take_over(cursor, self._most, self._settings.listener_idle)
            if lost:
                log.error("intake_entries_lost", count=len(lost), ids=lost[:20])
                self._counts.lost(len(lost))
            if entries:
                log.info("intake_taken_over", entries=len(entries))
                self._take_in(entries)
            if cursor == "0-0":
                return


def _pause(bounds: tuple[float, float], attempt: int) -> float:
    shortest, longest = bounds
    return min(longest, shortest * 2.0 ** min(attempt, 10)) * random.uniform(0.7, 1.0)
