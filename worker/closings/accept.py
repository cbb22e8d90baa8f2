"""Closings: a conversation that was resolved becomes a request, if its organization's policy says so.

Entries, change stream and reconcile all come through here. The request id is made of the `resolvedAt` that the
database has, so that what they all see is one request; the first that accepts it fixes its body.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pymongo
from bson import ObjectId
from pymongo.read_concern import ReadConcern

from worker.clock import milliseconds
from worker.closings.admission import Admission
from worker.closings.policies import Policy
from worker.closings.skipped import LeftOutClosings, Omission
from worker.domain.requests import SnapshotRequest, Trigger
from worker.errors import NotResolvedYet, Refused, SnapshotError
from worker.service import Asked, Receipt, Service
from worker.stores.connections import Document, store_errors
from worker.stores.wakeups import BULK

PREFIX = "resolved:"
TRIGGER: Trigger = "conversation.resolved"
_FIELDS = dict.fromkeys(("organizationId", "contactId", "channelType", "resolvedAt"), 1)
_MAJORITY = ReadConcern("majority")


class Claim(Protocol):
    """Someone says that this conversation was resolved."""

    @property
    def organization_id(self) -> ObjectId | None: ...
    @property
    def conversation_id(self) -> ObjectId: ...


@dataclass(frozen=True, slots=True)
class Closing:
    """A conversation that was resolved. The organization is None where the database itself says so: it knows whose."""

    organization_id: ObjectId | None
    conversation_id: ObjectId


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The policy makes no snapshot of this closing."""

    reason: str
    first: bool
    """Whether no source has seen this closing left out before: count these."""


Accepted = Receipt | LeftOut | SnapshotError


def closing_prefix(conversation: ObjectId) -> str:
    """What the request ids of all of a conversation's closings begin with."""
    return f"{PREFIX}{conversation}:"


def closing_id(conversation: ObjectId, resolved_at: datetime) -> str:
    """The request id of a closing."""
    return f"{closing_prefix(conversation)}{milliseconds(resolved_at)}"


class Closings:
    """Accepts closings."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._settings = service.settings
        self._admit = Admission(service.connections)
        self.left_out = LeftOutClosings(service.connections)

    def accept(self, closings: Sequence[Claim]) -> list[Accepted]:
        """Writes the closings that the policies admit into the ledger; for each what became of it.

        A Receipt, of the first request where the closing had one; not enqueued (`Service.enqueue` does it, for those
        without a settle delay). LeftOut. NotResolvedYet where the organization has no such conversation, or
        it is not resolved, or has no date as `resolvedAt`, which a closing is known by. AcceptUnknown: repeat.
        Raises StoreUnavailable, StoreConflict, AcceptUnknown where that is so for all.
        """
        with pymongo.timeout(self._settings.run_deadline.total_seconds()):
            resolved = self._read(closings)
            answers = self._known(resolved.values())
            self._accept_new([each for key, each in resolved.items() if key not in answers], answers)
        return [
            answers[each.conversation_id]
            if _is_of(resolved.get(each.conversation_id), each)
            else NotResolvedYet(conversationId=str(each.conversation_id))
            for each in closings
        ]

    def _read(self, closings: Iterable[Claim]) -> dict[ObjectId, Document]:
        """The conversations that are resolved, at majority: what may be rolled back is no closing yet."""
        named: dict[ObjectId, list[Claim]] = defaultdict(list)
        for each in closings:
            named[each.conversation_id].append(each)
        conversations = self._service.connections.database[self._settings.conversations_collection]
        with store_errors():
            found = list(
                conversations.with_options(read_concern=_MAJORITY).find(
                    {"_id": {"$in": list(named)}, "isResolved": True}, _FIELDS
                )
            )
        whole = [each for each in found if _is_whole(each)]
        return {each["_id"]: each for each in whole if any(_is_of(each, claim) for claim in named[each["_id"]])}

    # --- the same closing again -----------------------------------------------------------------------

    def _known(self, conversations: Iterable[Document]) -> dict[ObjectId, Accepted]:
        """The first request's receipt where a closing has one, whatever the policy says by now."""
        wanted: dict[ObjectId, dict[str, ObjectId]] = defaultdict(dict)
        for each in conversations:
            wanted[each["organizationId"]][closing_id(each["_id"], each["resolvedAt"])] = each["_id"]
        if not wanted:
            return {}
        keys = [{"organizationId": key, "requestId": {"$in": list(ids)}} for key, ids in wanted.items()]
        ledger = self._service.ledger.collection.with_options(read_concern=_MAJORITY)
        with store_errors():
            entries = list(ledger.find({"$or": keys}))
        return {wanted[each["organizationId"]][each["requestId"]]: _receipt(each) for each in entries}

    # --- a new one ------------------------------------------------------------------------------------

    def _accept_new(self, conversations: Sequence[Document], answers: dict[ObjectId, Accepted]) -> None:
        admitted: list[tuple[Document, Policy]] = []
        omitted: list[Omission] = []
        for each, verdict in self._admit(conversations) if conversations else ():
            if isinstance(verdict, Policy):
                admitted.append((each, verdict))
            else:
                name = closing_id(each["_id"], each["resolvedAt"])
                omitted.append(Omission(each["organizationId"], each["_id"], name, verdict))
        now = self._service.clock.now()
        new = self.left_out.record(omitted, now)
        answers |= {each.conversation_id: LeftOut(each.reason, each.request_id in new) for each in omitted}
        if admitted:
            self._write([each for each, _ in admitted], [self._asked(*pair, now) for pair in admitted], answers)

    def _write(
        self, conversations: Sequence[Document], asked: Sequence[Asked], answers: dict[ObjectId, Accepted]
    ) -> None:
        results = self._service.accept(asked)
        answers |= {each["_id"]: result for each, result in zip(conversations, results, strict=True)}
        # Refused: another source was first, under a policy that was changed since, or it is even deleted again.
        second = [each for each in conversations if isinstance(answers[each["_id"]], Refused)]
        answers |= self._known(second)
        self.left_out.forget(each.request_id for each in results if isinstance(each, Receipt) and each.created)

    def _asked(self, conversation: Document, policy: Policy, now: datetime) -> Asked:
        # Not checked again: labels that a policy was given under other limits are still its labels.
        request = SnapshotRequest.model_construct(
            organization_id=conversation["organizationId"],
            contact_id=conversation["contactId"],
            conversation_id=conversation["_id"],
            tags=policy.tags,
            category=policy.category,
            quality=policy.quality,
        )
        # A platform whose clock is fast must not hold its closings back.
        due = min(conversation["resolvedAt"], now) + policy.settle(self._settings)
        name = closing_id(conversation["_id"], conversation["resolvedAt"])
        return Asked(request, name, TRIGGER, BULK, due if due > now else None)


def _is_whole(conversation: Mapping[str, object]) -> bool:
    ids = (conversation["_id"], conversation.get("organizationId"))
    return isinstance(conversation.get("resolvedAt"), datetime) and all(isinstance(each, ObjectId) for each in ids)


def _is_of(conversation: Document | None, claim: Claim) -> bool:
    return conversation is not None and claim.organization_id in (None, conversation["organizationId"])


def _receipt(entry: Document) -> Receipt:
    return Receipt(
        id=entry["_id"],
        organization_id=entry["organizationId"],
        request_id=entry["requestId"],
        status=entry["status"],
        created=False,
        entry=entry,
    )
