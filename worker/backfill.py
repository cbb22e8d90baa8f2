"""The backfill: one request for every conversation of an organization, in chunks, and the wait for all of them.

The request id is derived from the conversation, so that a second backfill, or one that was interrupted,
asks for the same requests.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from bson import ObjectId
from pymongo.read_concern import ReadConcern

from worker.domain.requests import ACCEPTED, COMPLETED, SnapshotRequest
from worker.errors import AcceptUnknown, InvalidRequest, NotFound, SnapshotError, TransientError
from worker.service import Asked, Receipt, Service
from worker.stores.connections import PLAIN, Document, store_errors
from worker.stores.wakeups import BULK

PREFIX = "all:"
_PAUSES = (0.02, 0.5)
"""Seconds between two looks at the ledger, growing."""


@dataclass
class Progress:
    """How far a backfill is: counts of requests."""

    conversations: int
    """What the organization had at the start."""
    requests: int = 0
    accepted: int = 0
    """Those that this backfill brought in; the others were there from before."""
    completed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    """Conversations without a request of this backfill, by code."""
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def in_flight(self) -> int:
        return self.requests - self.completed - self.failed

    @property
    def rate(self) -> float:
        """Outcomes a second."""
        return (self.completed + self.failed) / self.seconds if self.seconds else 0.0


OnProgress = Callable[[Progress], None]


class Backfill:
    """One backfill. `fields`: `notes`, `tags`, `quality`, `category`, `userId` that all its requests have."""

    def __init__(
        self, service: Service, organization: ObjectId, fields: Mapping[str, Any], on_progress: OnProgress
    ) -> None:
        """Raises InvalidRequest where the fields are not valid, NotFound where there are no conversations."""
        self._service = service
        self._connections = service.connections
        self._limits = service.settings
        self._organization = organization
        self._on_progress = on_progress
        # Checked once: the requests differ in two ids, which the database gives.
        fields = {**fields, "organizationId": organization, "contactId": ObjectId()}
        self._pattern = SnapshotRequest.read(fields, self._limits)
        with store_errors():
            count = self._conversations.count_documents({"organizationId": organization})
        if not count:
            raise NotFound("The organization has no conversations.", organizationId=str(organization))
        self._progress = Progress(count)
        self._chunks: list[list[ObjectId]] = []

    @property
    def _conversations(self) -> Any:
        database = self._connections.database
        return database[self._limits.conversations_collection].with_options(codec_options=PLAIN)

    def __call__(self, timeout: float) -> Progress:
        """Accepts and enqueues all, and waits `timeout` seconds at most until they are finished.

        What is not finished then is `in_flight`, and stays accepted. Raises TransientError where a store is
        down for longer than that; to call again carries on.
        """
        started = time.monotonic()
        self._started, self._deadline = started, started + timeout
        asked = self._asked()
        while batch := list(islice(asked, self._limits.chunk_size)):
            receipts = self._accept(batch)
            self._service.enqueue(receipts)
            if receipts:
                self._chunks.append([each.id for each in receipts])
            self._tell()
        for chunk in self._chunks:
            self._wait(chunk)
        return self._progress

    def _tell(self) -> None:
        self._progress.seconds = time.monotonic() - self._started
        self._on_progress(self._progress)

    # --- accept ---------------------------------------------------------------------------------------

    def _asked(self) -> Iterator[Asked]:
        """A request for each conversation, as they are read; one that has no contact cannot have one."""
        condition = {"organizationId": self._organization}
        with store_errors(), self._conversations.find(condition, {"contactId": 1}, batch_size=1000) as cursor:
            for conversation in cursor:
                ids = {"contact_id": conversation.get("contactId"), "conversation_id": conversation["_id"]}
                if all(isinstance(each, ObjectId) for each in ids.values()):
                    request = self._pattern.model_copy(update=ids)
                    yield Asked(request, f"{PREFIX}{conversation['_id']}", "backfill", BULK)
                else:
                    self._progress.refused[InvalidRequest.code] += 1

    def _accept(self, batch: Sequence[Asked]) -> list[Receipt]:
        receipts: list[Receipt] = []
        left, pauses = list(batch), _growing_pauses()
        while left:
            unknown: list[Asked] = []
            fault: TransientError = AcceptUnknown()
            for asked, answer in zip(left, self._answers(left), strict=True):
                match answer:
                    case Receipt():
                        receipts.append(answer)
                    case TransientError():
                        unknown.append(asked)
                        fault = answer
                    case _:
                        self._progress.refused[answer.code] += 1
            left = unknown
            if left:
                self._pause(next(pauses), fault)
        self._progress.requests += len(receipts)
        self._progress.accepted += sum(each.created for each in receipts)
        return receipts

    def _answers(self, asked: Sequence[Asked]) -> Sequence[Receipt | SnapshotError]:
        try:
            return self._service.accept(asked)
        except TransientError as error:
            return [error] * len(asked)

    def _pause(self, seconds: float, fault: TransientError) -> None:
        if time.monotonic() + seconds > self._deadline:
            raise fault
        time.sleep(seconds)

    # --- wait -----------------------------------------------------------------------------------------

    def _wait(self, chunk: Sequence[ObjectId]) -> None:
        """Looks at one chunk, by `_id`, until it is finished: those before it are, and workers take them in order."""
        before, failures = self._progress.completed, self._progress.failures.copy()
        for pause in _growing_pauses():
            fault: TransientError | None = None
            try:
                counts = self._outcomes(chunk)
            except TransientError as error:
                fault = error
            else:
                self._progress.completed = before + counts.pop(COMPLETED, 0)
                in_flight = counts.pop(ACCEPTED, 0)
                self._progress.failures = failures + counts
                self._tell()
                if not in_flight:
                    return
            if time.monotonic() + pause > self._deadline:
                if fault:
                    raise fault
                return
            time.sleep(pause)

    def _outcomes(self, chunk: Sequence[ObjectId]) -> Counter[str]:
        """Counts by status, the failed by their code. At majority: what is counted is not rolled back."""
        name = {"$cond": [{"$eq": ["$status", "failed"]}, {"$ifNull": ["$error.code", "failed"]}, "$status"]}
        pipeline: list[Document] = [
            {"$match": {"_id": {"$in": list(chunk)}}},
            {"$group": {"_id": name, "count": {"$sum": 1}}},
        ]
        ledger = self._service.ledger.collection.with_options(read_concern=ReadConcern("majority"))
        with store_errors():
            return Counter({each["_id"]: each["count"] for each in ledger.aggregate(pipeline)})


def _growing_pauses() -> Iterator[float]:
    shortest, longest = _PAUSES
    pause = shortest
    while True:
        yield pause
        pause = min(1.5 * pause, longest)
