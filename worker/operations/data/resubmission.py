"""Resubmits a corrected rejected entry.

The corrected entry is processed like any intake entry, with the request id that the original entry would have had, so
resubmitting it twice makes one request. It is then removed from the stream, and a key in Redis records for a while
which request it became.
"""

from dataclasses import replace
from typing import Any

from bson import ObjectId

from worker.closings.accept import Closings
from worker.closings.results import Skipped
from worker.domain.requests import ConversationResolved
from worker.errors import InvalidRequest, NotFound, Refused, SnapshotError
from worker.intake.entries import (
    CLIENT_FIELD,
    DATA_FIELD,
    STREAM_PREFIX,
    TASK_PREFIX,
    TYPE_FIELD,
    read_entry,
    task_request_id,
)
from worker.operations.data.rejected_entries import RejectedEntries, RejectedEntry
from worker.service import NewRequest, Service
from worker.stores.connections import broker_errors

_CLAIM_MS = 30_000
_REQUEST_OR_CLOSING = NewRequest | ConversationResolved


class ResubmissionInProgress(Refused):
    """Someone else is resubmitting this entry. Reload the page in half a minute."""

    code = "in_progress"


class OtherOrganization(Refused):
    """The entry must name your own organization."""

    code = "other_organization"


class AlreadyResubmitted(Refused):
    """This entry has already been resubmitted; `result` is the id of its request, or the reason why there is none."""

    code = "taken_in"

    @property
    def result(self) -> str:
        return str(self.details["result"])


class Resubmission:
    """Finds rejected entries, and resubmits them."""

    def __init__(self, service: Service, entries: RejectedEntries) -> None:
        self._service = service
        self._entries = entries
        self._settings = service.settings

    @property
    def _redis(self) -> Any:
        return self._service.connections.redis

    def find(self, key: str, organization: ObjectId | None) -> RejectedEntry:
        """Return the entry. Raises NotFound, AlreadyResubmitted, BrokerUnavailable."""
        entry = self._entries.find(key, organization)
        if entry is not None:
            return entry
        raise self._recorded_result(key, organization) or NotFound(
            "Rejected entry not found: it may have been resubmitted, erased or trimmed by age."
        )

    def resubmit(self, entry: RejectedEntry, entry_type: str, data: str, organization: ObjectId | None) -> str:
        """Accept the corrected entry; return the request's id, or `skipped: <reason>` if no snapshot is made for it.

        Args:
            entry: The rejected entry.
            entry_type: The corrected type, `snapshot.requested` or `conversation.resolved`.
            data: The corrected content, a JSON object.
            organization: The organization that the entry must name. None: any.

        Raises:
            InvalidRequest, OtherOrganization, RequestIdConflict, NotResolvedYet: The corrected entry is refused.
            ResubmissionInProgress, AlreadyResubmitted: Another operator was faster.
            AcceptUnknown, StoreUnavailable, BrokerUnavailable: It is safe to try again.
        """
        submitted = self._read(entry, entry_type, data)
        owner = submitted.request.organization_id if isinstance(submitted, NewRequest) else submitted.organization_id
        if organization not in (None, owner):
            raise OtherOrganization
        key = self._result_key(entry.id)
        with broker_errors():
            claimed = self._redis.set(key, "", nx=True, px=_CLAIM_MS)
        if not claimed:
            raise self._recorded_result(entry.id, organization) or ResubmissionInProgress()
        try:
            result = self._accept(submitted)
        except SnapshotError:
            with broker_errors():
                self._redis.delete(key)
            raise
        seconds = round(self._settings.events_retention.total_seconds())
        with broker_errors(), self._redis.pipeline() as pipeline:
            pipeline.set(key, f"{owner} {result}", ex=seconds)
            pipeline.xdel(self._settings.rejected_stream, entry.id)
            pipeline.execute()
        return result

    def _read(self, entry: RejectedEntry, entry_type: str, data: str) -> _REQUEST_OR_CLOSING:
        fields = {TYPE_FIELD: entry_type.encode(), DATA_FIELD: data.encode()}
        if entry.fields.get("client") and not entry.is_task:
            fields[CLIENT_FIELD] = b"1"
        submitted = read_entry(fields, entry.origin, self._settings)
        if not isinstance(submitted, NewRequest) or submitted.request.request_id:
            return submitted
        if entry.is_task:
            return replace(submitted, request_id=_task_request_id(entry), trigger="task")
        if _is_stream_id(entry.origin):
            return submitted
        # Any program may have written the origin, so it may be the id of another entry.
        return replace(submitted, request_id=_own_request_id(entry))

    def _accept(self, submitted: _REQUEST_OR_CLOSING) -> str:
        if isinstance(submitted, NewRequest):
            return str(self._service.submit(submitted).id)
        result = Closings(self._service).submit_one(submitted)
        return f"skipped: {result.reason}" if isinstance(result, Skipped) else str(result.id)

    def _result_key(self, key: str) -> str:
        return f"{self._settings.rejected_stream}:taken-in:{key}"

    def _recorded_result(self, key: str, organization: ObjectId | None) -> AlreadyResubmitted | None:
        with broker_errors():
            recorded = (self._redis.get(self._result_key(key)) or b"").decode()
        owner, _, result = recorded.partition(" ")
        if result and organization in (None, ObjectId(owner)):
            return AlreadyResubmitted(result=result)
        return None


def _task_request_id(entry: RejectedEntry) -> str:
    """Derive the request id as the task would have, unless the task was rejected for its id."""
    try:
        return task_request_id(entry.origin.removeprefix(TASK_PREFIX))
    except InvalidRequest:
        return _own_request_id(entry)


def _own_request_id(entry: RejectedEntry) -> str:
    return f"{STREAM_PREFIX}r{entry.id}"


def _is_stream_id(origin: str) -> bool:
    first, _, second = origin.partition("-")
    return first.isdecimal() and second.isdecimal()
