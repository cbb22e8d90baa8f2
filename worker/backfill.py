"""The backfill: request a snapshot of every conversation of an organization, in chunks, and wait for all of them.

The request id is derived from the conversation, so that a second or resumed backfill makes the same requests.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from bson import ObjectId
from pymongo.read_concern import ReadConcern

from worker.domain.ledger_entry import ACCEPTED, COMPLETED
from worker.domain.requests import SnapshotRequest
from worker.errors import AcceptUnknown, InvalidRequest, NotFound, SnapshotDeleted, SnapshotError, TransientError
from worker.service import NewRequest, Receipt, Service
from worker.source.ids import read_id, stored_forms
from worker.stores.connections import PLAIN, Document, store_errors
from worker.stores.wakeups import BULK

PREFIX = "all:"
_PAUSES = (0.02, 0.5)
"""Shortest and longest seconds between two polls of the ledger."""


@dataclass
class Progress:
    """The progress of a backfill, as counts of requests."""

    conversations: int
    """Conversations of the organization at the start."""
    requests: int = 0
    accepted: int = 0
    """Requests that this backfill created; the others existed before."""
    completed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    deleted: int = 0
    """Conversations whose snapshot was deleted: it is not made again."""
    refused: Counter[str] = field(default_factory=Counter)
    """Conversations for which no request could be made, by error code."""
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        return self.failures.total()

    @property
    def in_flight(self) -> int:
        return self.requests - self.completed - self.failed

    @property
    def rate(self) -> float:
        """Outcomes per second."""
        return (self.completed + self.failed) / self.seconds if self.seconds else 0.0


OnProgress = Callable[[Progress], None]


class Backfill:
    """One backfill. `fields`: `notes`, `tags`, `quality`, `category`, `userId`, the same for all requests."""

    def __init__(
        self, service: Service, organization: ObjectId, fields: Mapping[str, Any], on_progress: OnProgress
    ) -> None:
        """Raises InvalidRequest if the fields are not valid, NotFound if there are no conversations."""
        self._service = service
        self._connections = service.connections
        self._limits = service.settings
        self._organization = organization
        self._on_progress = on_progress
        # Validated once: the requests differ only in two ids, which come from the database.
        fields = {**fields, "organizationId": organization, "contactId": ObjectId()}
        self._pattern = SnapshotRequest.read(fields, self._limits)
        with store_errors():
            count = self._conversations.count_documents(self._condition)
        if not count:
            raise NotFound("The organization has no conversations.", organizationId=str(organization))
        self._progress = Progress(count)
        self._chunks: list[list[ObjectId]] = []

    @property
    def _condition(self) -> Document:
        name = self._connections.fields.conversation["organizationId"]
        return {name: {"$in": stored_forms([self._organization])}}

    @property
    def _conversations(self) -> Any:
        database = self._connections.database
        return database[self._limits.conversations_collection].with_options(codec_options=PLAIN)

    def __call__(self, timeout: float) -> Progress:
        """Accept and enqueue all requests, then wait at most `timeout` seconds until they are finished.

        Requests that are not finished by then stay accepted and count as `in_flight`. Raises TransientError if a store
        is down for longer; a second backfill resumes.
        """
        started = time.monotonic()
        self._started, self._deadline = started, started + timeout
        requests = self._requests()
        while batch := list(islice(requests, self._limits.chunk_size)):
            receipts = self._accept(batch)
            self._service.enqueue(receipts)
            if receipts:
                self._chunks.append([each.id for each in receipts])
            self._report()
        for chunk in self._chunks:
            self._wait(chunk)
        return self._progress

    def _report(self) -> None:
        self._progress.seconds = time.monotonic() - self._started
        self._on_progress(self._progress)

    # --- accept ---------------------------------------------------------------------------------------

    def _requests(self) -> Iterator[NewRequest]:
        """Yield a request for each conversation that has a contact."""
        fields = self._connections.fields.conversation.projection(["contactId"])
        with store_errors(), self._conversations.find(self._condition, fields, batch_size=1000) as cursor:
            for conversation in cursor:
                key = read_id(conversation["_id"])
                ids = {"contact_id": read_id(conversation.get("contactId")), "conversation_id": key}
                if all(isinstance(each, ObjectId) for each in ids.values()):
                    request = self._pattern.model_copy(update=ids)
                    yield NewRequest(request, f"{PREFIX}{key}", "backfill", BULK)
                else:
                    self._progress.refused[InvalidRequest.code] += 1

    def _accept(self, batch: Sequence[NewRequest]) -> list[Receipt]:
        receipts: list[Receipt] = []
        left, pauses = list(batch), _growing_pauses()
        while left:
            unknown: list[NewRequest] = []
            fault: TransientError = AcceptUnknown()
            for asked, answer in zip(left, self._answers(left), strict=True):
                match answer:
                    case Receipt():
                        receipts.append(answer)
                    case TransientError():
                        unknown.append(asked)
                        fault = answer
                    case SnapshotDeleted():
                        self._progress.deleted += 1
                    case _:
                        self._progress.refused[answer.code] += 1
            left = unknown
            if left:
                self._pause(next(pauses), fault)
        self._progress.requests += len(receipts)
        self._progress.accepted += sum(each.created for each in receipts)
        return receipts

    def _answers(self, asked: Sequence[NewRequest]) -> Sequence[Receipt | SnapshotError]:
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
        """Poll one chunk until it is finished. Workers take chunks in order, so the earlier ones are finished."""
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
                self._report()
                if not in_flight:
                    return
            if time.monotonic() + pause > self._deadline:
                if fault:
                    raise fault
                return
            time.sleep(pause)

    def _outcomes(self, chunk: Sequence[ObjectId]) -> Counter[str]:
        """Count entries by status, failed ones by code, at majority: a failover cannot roll the counts back."""
        name = {"$cond": [{"$eq": ["$status", "failed"]}, {"$ifNull": ["$error.code", "failed"]}, "$status"]}
        pipeline: list[Document] = [
            {"$match": {"_id": {"$in": list(chunk)}}},
            {"$group": {"_id": name, "count": {"$sum": 1}}},
        ]
        ledger = self._connections.database[self._limits.requests_collection].with_options(
            read_concern=ReadConcern("majority")
        )
        with store_errors():
            return Counter({each["_id"]: each["count"] for each in ledger.aggregate(pipeline)})


def _growing_pauses() -> Iterator[float]:
    shortest, longest = _PAUSES
    pause = shortest
    while True:
        yield pause
        pause = min(1.5 * pause, longest)
