"""The producers: send requests at a rate, by every way, and repeat with the same id what has no answer."""

import heapq
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pymongo
from bson import ObjectId
from pymongo.errors import PyMongoError

from chaos.dataset import Wanted
from chaos.journal import ACCEPTED, REFUSED, SENT, Book
from chaos.producers import Answer, Way
from worker.settings import Settings

_THREADS = 10
_CHUNK = 50
_AGAIN_SECONDS = (0.5, 3.0)
_LOOK_SECONDS = 5.0
_MISSED_SECONDS = 20.0
"""A request that Redis took and that is not in the ledger after so long is sent again, each time after twice as long:
what waits behind a backlog is not lost, and its repeats would keep the backlog there."""
_MOST_DOUBLED = 4

Due = tuple[float, int, list[Wanted]]


class Driver:
    """Use as a context manager; `start`, then `wait`."""

    def __init__(self, settings: Settings, ways: dict[str, Way], book: Book, dice: random.Random) -> None:
        self._settings, self.ways, self._book, self._dice = settings, ways, book, dice
        self._heap: list[Due] = []
        self._changed = threading.Condition()
        self._number = 0
        self._unsettled = 0
        self._sent: dict[str, tuple[float, Wanted, str]] = {}
        """Taken by Redis, not seen in the ledger yet, by token."""
        self._repeats: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, requests: Iterable[Wanted], seconds: float) -> None:
        """Plans all of them, evenly over `seconds`, and begins."""
        everything = list(requests)
        for one in everything:
            self._book.write(
                what="plan",
                token=one.token,
                way=one.way,
                organization=one.body["organizationId"],
                expected=one.expected,
                messages=one.messages,
                request_id=one.request_id,
                conversation=one.body.get("conversationId"),
                contact=one.body.get("contactId"),
                message_ids=one.body.get("messageIds"),
            )
        self._unsettled = len(everything)
        begin, step = time.monotonic(), seconds / max(1, len(everything))
        chunk: list[Wanted] = []
        for number, one in enumerate(everything):
            if one.way == "bulk":
                chunk.append(one)
                if len(chunk) == _CHUNK:
                    self._plan(begin + number * step, chunk)
                    chunk = []
            else:
                self._plan(begin + number * step, [one])
        if chunk:
            self._plan(begin + seconds, chunk)
        work = [self._work] * _THREADS + [self._look]
        self._threads = [threading.Thread(target=each, daemon=True, name="driver") for each in work]
        for thread in self._threads:
            thread.start()

    def _plan(self, due: float, wanted: list[Wanted]) -> None:
        with self._changed:
            self._number += 1
            heapq.heappush(self._heap, (due, self._number, wanted))
            self._changed.notify()

    @property
    def unsettled(self) -> int:
        """Requests of which the driver does not know that they are in the ledger."""
        return self._unsettled

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
                _, _, wanted = heapq.heappop(self._heap)
            for one in wanted:
                self._book.write(what="send", token=one.token, request_id=one.request_id)
            answers = self.ways[wanted[0].way](wanted)
            again = [one for one, answer in zip(wanted, answers, strict=True) if not self._settle(one, answer)]
            if again:
                self._plan(time.monotonic() + self._dice.uniform(*_AGAIN_SECONDS), again)

    def _settle(self, one: Wanted, answer: Answer) -> bool:
        """Notes the answer; whether the request needs no repeat for now."""
        kind, request_id = answer
        self._book.write(what="answer", token=one.token, answer=kind, request_id=request_id)
        if kind == SENT and request_id:
            with self._changed:
                self._sent[one.token] = (time.monotonic(), one, request_id)
            return True
        # A bare XADD without a request id cannot be repeated: the repeat would be another request.
        final = kind in {ACCEPTED, REFUSED} or (one.way == "stream" and one.request_id is None)
        if final:
            with self._changed:
                self._unsettled -= 1
        return final

    # --- looking whether Redis lost it --------------------------------------------------------------------

    def _look(self) -> None:
        with pymongo.MongoClient[Any](self._settings.mongo_url, serverSelectionTimeoutMS=3000) as mongo:
            ledger = mongo[self._settings.mongo_database][self._settings.requests_collection]
            while not self._stop.wait(_LOOK_SECONDS):
                with self._changed:
                    waiting = dict(self._sent)
                try:
                    self._look_at(ledger, waiting)
                except PyMongoError:
                    continue

    def _look_at(self, ledger: Any, waiting: dict[str, tuple[float, Wanted, str]]) -> None:
        majority = ledger.with_options(read_concern=pymongo.read_concern.ReadConcern("majority"))
        by_organization: dict[str, list[str]] = {}
        for _, one, request_id in waiting.values():
            by_organization.setdefault(one.body["organizationId"], []).append(request_id)
        there: set[tuple[str, str]] = set()
        for organization, names in by_organization.items():
            for first in range(0, len(names), 1000):
                condition = {
                    "organizationId": ObjectId(organization),
                    "requestId": {"$in": names[first : first + 1000]},
                }
                there |= {(organization, each["requestId"]) for each in majority.find(condition, {"requestId": 1})}
        now = time.monotonic()
        for token, (sent_at, one, request_id) in waiting.items():
            found = (one.body["organizationId"], request_id) in there
            if not found and now - sent_at < _MISSED_SECONDS * 2 ** min(self._repeats[token], _MOST_DOUBLED):
                continue
            with self._changed:
                self._sent.pop(token, None)
                repeat = not found and not request_id.startswith("stream:")
                self._unsettled -= not repeat
            if repeat:
                self._repeats[token] += 1
                self._plan(now, [one])
