"""Refused intake entries: listed, and taken in again after a correction.

What is taken in again goes the way of the intake, with the request id that the entry would have had: taking it in
twice is one request. Then the entry leaves the stream, and a key remembers for a while what became of it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bson import ObjectId

from worker.clock import from_milliseconds
from worker.closings.accept import Closings, LeftOut
from worker.domain.requests import read_object_id
from worker.errors import InvalidRequest, NotFound, Refused, SnapshotError
from worker.intake.entries import (
    CLIENT_FIELD,
    DATA_FIELD,
    REQUESTED,
    RESOLVED,
    STREAM_PREFIX,
    TASK_PREFIX,
    TYPE_FIELD,
    read_entry,
    task_request_id,
)
from worker.service import Asked, Receipt, Service
from worker.stores.connections import broker_errors

_READ = 200
_READS = 5
"""Times so many entries that a page looks through at most for an organization's."""
_CLAIM_MS = 30_000


class Elsewhere(Refused):
    """Someone else is taking this entry in at the moment; look again in half a minute."""

    code = "in_progress"


class OtherOrganization(Refused):
    """The entry should name your own organization."""

    code = "other_organization"


class TakenIn(Refused):
    """This entry was taken in again."""

    code = "taken_in"


@dataclass(frozen=True, slots=True)
class Rejection:
    """A refused entry. `fields`: as it came, which may be personal data. `organization`: None where it names none."""

    id: str
    origin: str
    code: str
    message: str
    fields: Mapping[str, Any]

    @property
    def at(self) -> datetime:
        """By Redis's clock."""
        return from_milliseconds(int(self.id.split("-", maxsplit=1)[0]))

    @property
    def is_task(self) -> bool:
        """Whether it came as a Celery task."""
        return self.origin.startswith(TASK_PREFIX)

    @property
    def data(self) -> str:
        """What is to be corrected: JSON, as far as it is."""
        if self.is_task:
            args = self.fields.get("args")
            return _pretty(args[0] if isinstance(args, list) and args else {})
        given = self.fields.get("data")
        try:
            return _pretty(json.loads(given)) if isinstance(given, str) else ""
        except (ValueError, RecursionError):
            return str(given).encode(errors="backslashreplace").decode()

    @property
    def kind(self) -> str:
        """The type of entry that it is meant to be."""
        if self.fields.get("type") in {REQUESTED, RESOLVED}:
            return str(self.fields["type"])
        return REQUESTED if "contactId" in self.data or "conversationId" not in self.data else RESOLVED

    @property
    def organization(self) -> ObjectId | None:
        try:
            found = json.loads(self.data)
            return read_object_id(found.get("organizationId")) if isinstance(found, dict) else None
        except (ValueError, RecursionError):
            return None


def _pretty(value: Any) -> str:
    shown = json.dumps(value, indent=2, ensure_ascii=False)
    try:
        shown.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(value, indent=2)
    return shown


class Rejections:
    """The stream of refused entries. Where an organization is given, others' entries are not there."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._names = service.settings

    @property
    def _redis(self) -> Any:
        return self._service.connections.redis

    def page(
        self, organization: ObjectId | None, limit: int, after: str | None = None
    ) -> tuple[list[Rejection], str | None]:
        """Newest first, and the cursor behind which there may be more. Raises BrokerUnavailable."""
        found: list[Rejection] = []
        cursor = after
        for _ in range(_READS):
            with broker_errors():
                read = self._redis.xrevrange(
                    self._names.rejected_stream, max=f"({cursor}" if cursor else "+", count=_READ
                )
            for key, fields in read:
                each = _rejection(key, fields)
                if organization in (None, each.organization):
                    found.append(each)
                    if len(found) > limit:
                        return found[:limit], found[limit - 1].id
            if len(read) < _READ:
                return found, None
            cursor = read[-1][0].decode()
        return found, cursor

    def one(self, key: str, organization: ObjectId | None) -> Rejection:
        """Raises NotFound, TakenIn with the `result` of it, BrokerUnavailable."""
        with broker_errors():
            read = self._redis.xrange(self._names.rejected_stream, key, key)
        if not read:
            raise self._gone(key, organization)
        found = _rejection(*read[0])
        if organization not in (None, found.organization):
            raise NotFound("There is no such rejected entry.")
        return found

    def take_in(self, which: Rejection, kind: str, data: str, organization: ObjectId | None) -> str:
        """Accepts the corrected entry; gives the ledger id, or `left out: <reason>`.

        Raises InvalidRequest, OtherOrganization, RequestIdConflict, NotResolvedYet, Elsewhere, TakenIn; after
        AcceptUnknown, StoreUnavailable and BrokerUnavailable it can be repeated.
        """
        asked = self._read(which, kind, data)
        of = asked.request.organization_id if isinstance(asked, Asked) else asked.organization_id
        if organization not in (None, of):
            raise OtherOrganization
        key = self._memory(which.id)
        with broker_errors():
            claimed = self._redis.set(key, "", nx=True, px=_CLAIM_MS)
        if not claimed:
            raise self._gone(which.id, organization, claimed=True)
        try:
            result = self._accept(asked)
        except SnapshotError:
            with broker_errors():
                self._redis.delete(key)
            raise
        seconds = round(self._names.events_retention.total_seconds())
        with broker_errors(), self._redis.pipeline() as pipeline:
            pipeline.set(key, f"{of} {result}", ex=seconds)
            pipeline.xdel(self._names.rejected_stream, which.id)
            pipeline.execute()
        return result

    def _read(self, which: Rejection, kind: str, data: str) -> Any:
        fields = {TYPE_FIELD: kind.encode(), DATA_FIELD: data.encode()}
        if self._is_clients(which):
            fields[CLIENT_FIELD] = b"1"
        asked = read_entry(fields, which.origin, self._names)
        if not isinstance(asked, Asked) or asked.request.request_id:
            return asked
        if which.is_task:
            return replace(asked, request_id=_of_task(which), trigger="task")
        # Not of our own making, so that it may be another's id.
        return asked if _is_stream_id(which.origin) else replace(asked, request_id=_of_rejection(which))

    def _is_clients(self, which: Rejection) -> bool:
        return bool(which.fields.get("client")) and not which.is_task

    def _accept(self, asked: Any) -> str:
        if isinstance(asked, Asked):
            return str(self._service.submit(asked).id)
        (answer,) = Closings(self._service).accept([asked])
        if isinstance(answer, Receipt):
            self._service.enqueue([answer])
            return str(answer.id)
        if isinstance(answer, LeftOut):
            return f"left out: {answer.reason}"
        raise answer

    def _memory(self, key: str) -> str:
        return f"{self._names.rejected_stream}:taken-in:{key}"

    def _gone(self, key: str, organization: ObjectId | None, claimed: bool = False) -> SnapshotError:
        """What there is to say of an entry that is not there, or that someone else has."""
        with broker_errors():
            kept = (self._redis.get(self._memory(key)) or b"").decode()
        of, _, result = kept.partition(" ")
        if result and organization in (None, ObjectId(of)):
            return TakenIn(result=result)
        return Elsewhere() if claimed else NotFound("There is no such rejected entry.")


def _rejection(key: bytes, fields: Mapping[bytes, bytes]) -> Rejection:
    """Of an entry that anyone may have added: what cannot be read is empty."""
    reason, original = _object(fields.get(b"reason")), _object(fields.get(b"entry"))
    origin = fields.get(b"origin", b"").decode(errors="replace")
    code, message = reason.get("code"), reason.get("message")
    return Rejection(key.decode(), origin, str(code or "unknown"), str(message or ""), original)


def _object(given: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(given or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_task(which: Rejection) -> str:
    """As the task would have derived it, unless it was refused for that."""
    try:
        return task_request_id(which.origin.removeprefix(TASK_PREFIX))
    except InvalidRequest:
        return _of_rejection(which)


def _of_rejection(which: Rejection) -> str:
    return f"{STREAM_PREFIX}r{which.id}"


def _is_stream_id(origin: str) -> bool:
    first, _, second = origin.partition("-")
    return first.isdecimal() and second.isdecimal()
