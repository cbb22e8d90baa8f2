"""The driver: sends requests at a rate through every channel and repeats those without an answer, with the same id.

Whatever Redis took without a request id is not sent again, as its producer would not: that would hide a loss.
"""

import heapq
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pymongo
from bson import ObjectId
from pymongo.errors import PyMongoError

from chaos.dataset import PlannedRequest
from chaos.journal import ACCEPTED, NOT_TAKEN, REFUSED, SENT, Journal
from chaos.producers import Answer, Producer
from worker.settings import Settings

_THREADS = 10
_CHUNK = 50
_BURST = 500
_AGAIN_SECONDS = (0.5, 3.0)
_LOOK_SECONDS = 5.0
_MISSED_SECONDS = 20.0
"""A request with an id that Redis took and that is not in the ledger after this time is sent again, each time after
twice as long: requests that wait behind a backlog are not lost, and repeating them would keep the backlog alive."""
_MOST_DOUBLED = 4

Due = tuple[float, int, list[PlannedRequest]]


class Driver:
    """Several threads; `start` begins, `add` sends more at once, `close` ends."""

    def __init__(
        self, settings: Settings, channels: dict[str, Producer], journal: Journal, dice: random.Random
    ) -> None:
        self._settings, self.channels, self._journal, self._dice = settings, channels, journal, dice
        self._heap: list[Due] = []
        self._changed = threading.Condition()
        self._number = 0
        self._unsettled = 0
        self._sent: dict[str, tuple[float, PlannedRequest, str]] = {}
        """Taken by Redis and not seen in the ledger yet, by token."""
        self._repeats: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, requests: Iterable[PlannedRequest], seconds: float) -> None:
        """Plans all of them evenly over `seconds`, and begins."""
        planned = list(requests)
        self._record(planned)
        begin, step = time.monotonic(), seconds / max(1, len(planned))
        chunk: list[PlannedRequest] = []
        for number, request in enumerate(planned):
            if request.channel == "bulk":
                chunk.append(request)
                if len(chunk) == _CHUNK:
                    self._plan(begin + number * step, chunk)
                    chunk = []
            else:
                self._plan(begin + number * step, [request])
        if chunk:
            self._plan(begin + seconds, chunk)
        work = [self._work] * _THREADS + [self._watch]
        self._threads = [threading.Thread(target=each, daemon=True, name="driver") for each in work]
        for thread in self._threads:
            thread.start()

    def add(self, requests: Sequence[PlannedRequest]) -> None:
        """Sends these as soon as possible: those of the channel `burst` together, the others one by one."""
        self._record(requests)
        now = time.monotonic()
        burst = [request for request in requests if request.channel == "burst"]
        for first in range(0, len(burst), _BURST):
            self._plan(now, burst[first : first + _BURST])
        for request in requests:
            if request.channel != "burst":
                self._plan(now, [request])

    def _record(self, requests: Sequence[PlannedRequest]) -> None:
        for request in requests:
            self._journal.write(
                what="plan",
                token=request.token,
                channel=request.channel,
                organization=request.body["organizationId"],
                expected=request.expected,
                messages=request.messages,
                request_id=request.request_id,
                conversation=request.body.get("conversationId"),
                contact=request.body.get("contactId"),
                message_ids=request.body.get("messageIds"),
                quality=request.body.get("quality"),
            )
        with self._changed:
            self._unsettled += len(requests)

    def _plan(self, due: float, requests: list[PlannedRequest]) -> None:
        with self._changed:
            self._number += 1
            heapq.heappush(self._heap, (due, self._number, requests))
            self._changed.notify()

    @property
    def unsettled(self) -> int:
        """How many requests are not known to be in the ledger."""
        return self._unsettled

    @property
    def repeated(self) -> int:
        """How many requests were sent again because they were not in the ledger in time, which may hide a loss."""
        return len(self._repeats)

    def close(self) -> None:
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(30)

    # --- sending ----------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._changed:
                if not self._heap or self._heap[0][0] > time.monotonic():
                    wait = self._heap[0][0] - time.monotonic() if self._heap else 1.0
                    self._changed.wait(min(1.0, max(0.001, wait)))
                    continue
                _, _, requests = heapq.heappop(self._heap)
            for request in requests:
                self._journal.write(what="send", token=request.token, request_id=request.request_id)
            answers = self.channels[requests[0].channel](requests)
            pairs = zip(requests, answers, strict=True)
            if again := [request for request, answer in pairs if not self._settle(request, answer)]:
                self._plan(time.monotonic() + self._dice.uniform(*_AGAIN_SECONDS), again)

    def _settle(self, request: PlannedRequest, answer: Answer) -> bool:
        """Records the answer; returns whether the request needs no repeat for now."""
        kind, request_id = answer
        self._journal.write(what="answer", token=request.token, answer=kind, request_id=request_id)
        if kind == SENT and request_id:
            with self._changed:
                self._sent[request.token] = (time.monotonic(), request, request_id)
            return True
        # An XADD without a request id and without an answer cannot be repeated: it would be another request.
        bare = request.channel in {"stream", "burst"} and request.request_id is None
        final = kind in {ACCEPTED, REFUSED} or (bare and kind != NOT_TAKEN)
        if final:
            with self._changed:
                self._unsettled -= 1
        return final

    # --- what Redis may have lost ---------------------------------------------------------------------------

    def _watch(self) -> None:
        """Repeats what has a request id and is not in the ledger after a while."""
        with pymongo.MongoClient[Any](self._settings.mongo_url, serverSelectionTimeoutMS=3000) as mongo:
            ledger = mongo[self._settings.mongo_database][self._settings.requests_collection]
            majority = ledger.with_options(read_concern=pymongo.read_concern.ReadConcern("majority"))
            while not self._stop.wait(_LOOK_SECONDS):
                with self._changed:
                    sent = dict(self._sent)
                try:
                    self._repeat_missing(majority, sent)
                except PyMongoError:
                    continue

    def _repeat_missing(self, ledger: Any, sent: dict[str, tuple[float, PlannedRequest, str]]) -> None:
        by_organization: dict[str, list[str]] = {}
        for _, request, request_id in sent.values():
            by_organization.setdefault(request.body["organizationId"], []).append(request_id)
        known: set[tuple[str, str]] = set()
        for organization, names in by_organization.items():
            for first in range(0, len(names), 1000):
                condition = {
                    "organizationId": ObjectId(organization),
                    "requestId": {"$in": names[first : first + 1000]},
                }
                known |= {(organization, entry["requestId"]) for entry in ledger.find(condition, {"requestId": 1})}
        now = time.monotonic()
        for token, (sent_at, request, request_id) in sent.items():
            is_known = (request.body["organizationId"], request_id) in known
            if not is_known and now - sent_at < _MISSED_SECONDS * 2 ** min(self._repeats[token], _MOST_DOUBLED):
                continue
            with self._changed:
                self._sent.pop(token, None)
                repeat = not is_known and not request_id.startswith(("stream:", "task:"))
                self._unsettled -= not repeat
            if repeat:
                self._repeats[token] += 1
                self._plan(now, [request])
