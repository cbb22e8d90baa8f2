"""Closings: a resolved conversation becomes a request if its organization's policy admits it.

Stream entries, Celery tasks, the change stream and the reconcile all submit closings here. The request id is derived
from the `resolvedAt` in the database, so all sources see the same request; the first one to accept it fixes its body.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import pymongo
from bson import ObjectId
from pymongo.read_concern import ReadConcern

from worker.closings.admission import Admission
from worker.closings.conversation import (
    ID_FIELDS,
    closing_id,
    is_closed,
    record_id,
    type_fault,
    undated_id,
)
from worker.closings.policies import Policies, Policy, fingerprint
from worker.closings.results import ClosingReport, ClosingResult, ClosingTally, Skipped
from worker.closings.skipped import SkippedClosing, SkippedClosings
from worker.domain.fair_shares import Allowance
from worker.domain.ledger_entry import LedgerEntry
from worker.domain.requests import SnapshotRequest, Trigger
from worker.errors import NotResolvedYet, Refused, SnapshotError
from worker.service import NewRequest, Receipt, Service
from worker.source.ids import stored_forms, with_ids
from worker.stores.bisect import bisect
from worker.stores.connections import Document, store_errors
from worker.stores.wakeups import BULK, INTERACTIVE
from worker.telemetry.counters import IntakeCounts

TRIGGER: Trigger = "conversation.resolved"
_FIELDS = ("organizationId", "contactId", "channelType", "isResolved", "resolvedAt")
_MAJORITY = ReadConcern("majority")
INTERACTIVE_PER_SECOND = 10
"""How many closings per organization and second go to the interactive queue. The others go to the bulk queue."""


class Closings:
    """Accepts closings. `counts`: the counters of the listener, the only process that exports them as metrics."""

    def __init__(self, service: Service, counts: IntakeCounts | None = None) -> None:
        self._service = service
        self._settings = service.settings
        self._fields = service.connections.fields.conversation
        self._counts = counts
        self._allowance = Allowance(INTERACTIVE_PER_SECOND)
        self._policies = Policies(service.connections)
        self._admit = Admission(service.connections, self._policies)
        self.skipped = SkippedClosings(service.connections)

    def submit(self, closings: Sequence[ClosingReport]) -> ClosingTally:
        """Accept closings, enqueue the new requests that are due, and count the skipped closings.

        Args:
            closings: Reports of resolved conversations, in any number and of any organizations.

        Returns:
            A result for each report. A closing that cannot be accepted does not hold up the others: its result is the
                error.

        Raises:
            StoreUnavailable: MongoDB cannot be reached. It is safe to submit the same reports again.
        """
        results = bisect(self.accept, closings, self._service.connections)
        tally = ClosingTally(closings, results)
        self._service.enqueue(tally.receipts)
        for skipped in tally.skipped:
            self._count(skipped)
        return tally

    def submit_one(self, closing: ClosingReport) -> Receipt | Skipped:
        """Accept and enqueue one closing. Raises the error that `accept` returns or raises for it."""
        (result,) = self.accept([closing])
        if isinstance(result, SnapshotError):
            raise result
        if isinstance(result, Skipped):
            self._count(result)
        else:
            self._service.enqueue([result])
        return result

    def _count(self, skipped: Skipped) -> None:
        if self._counts and skipped.first:
            self._counts.skipped(skipped.reason)

    def accept(self, closings: Sequence[ClosingReport]) -> list[ClosingResult]:
        """Write the closings that the policies admit into the ledger, without enqueuing them.

        Returns for each closing a Receipt (that of the first request if the closing already had one), Skipped, or an
        error: NotResolvedYet if the organization has no such conversation, or it is not resolved, or has no
        `resolvedAt`; AcceptUnknown if the outcome is unknown and the closing should be submitted again. Raises
        StoreUnavailable, StoreConflict, or AcceptUnknown if it applies to all closings.
        """
        with pymongo.timeout(self._settings.run_deadline.total_seconds()):
            conversations = self._read(closings)
            results = self._skip_faulty(conversations.values())
            closed = [conversation for conversation in conversations.values() if is_closed(conversation)]
            results |= self._known(closed)
            self._accept_new([document for document in closed if document["_id"] not in results], results)
        return [
            results[closing.conversation_id]
            if closing.conversation_id in results
            and _is_same_organization(conversations[closing.conversation_id], closing)
            else NotResolvedYet(conversationId=str(closing.conversation_id))
            for closing in closings
        ]

    def _read(self, closings: Iterable[ClosingReport]) -> dict[ObjectId, Document]:
        """Read the conversations that may be resolved, at majority: a write that is rolled back is no closing."""
        reports: dict[ObjectId, list[ClosingReport]] = defaultdict(list)
        for closing in closings:
            reports[closing.conversation_id].append(closing)
        collection = self._service.connections.database[self._settings.conversations_collection]
        with store_errors():
            conversations = list(
                collection.with_options(read_concern=_MAJORITY).find(
                    {"_id": {"$in": stored_forms(reports)}, self._fields["isResolved"]: self._fields.may_be_resolved},
                    self._fields.projection(_FIELDS),
                )
            )
        return {
            conversation["_id"]: conversation
            for conversation in (with_ids(document, *ID_FIELDS) for document in conversations)
            if any(_is_same_organization(conversation, report) for report in reports[conversation["_id"]])
        }

    def recently_checked(self, closings: Mapping[str, ObjectId]) -> set[str]:
        """Return the request ids of those closings that were skipped and need not be checked again yet."""
        policies = self._policies.of(set(closings.values()))
        fingerprints = {organization: fingerprint(policy) for organization, policy in policies.items()}
        return self.skipped.recently_checked(closings, fingerprints, self._service.clock.now())

    def _skip_faulty(self, conversations: Iterable[Document]) -> dict[ObjectId, ClosingResult]:
        """Skip conversations whose `isResolved` or `resolvedAt` has the wrong type."""
        faulty = [(conversation, reason) for conversation in conversations if (reason := type_fault(conversation))]
        return self._skip(faulty) if faulty else {}

    def _skip(self, conversations: Sequence[tuple[Document, str]]) -> dict[ObjectId, ClosingResult]:
        policies = self._policies.of({conversation["organizationId"] for conversation, _ in conversations})
        skipped = [
            SkippedClosing(
                conversation["organizationId"],
                conversation["_id"],
                record_id(conversation),
                reason,
                fingerprint(policies[conversation["organizationId"]]),
            )
            for conversation, reason in conversations
        ]
        new = self.skipped.record(skipped, self._service.clock.now())
        return {each.conversation_id: Skipped(each.reason, each.request_id in new) for each in skipped}

    # --- closings that have a request already ---------------------------------------------------------

    def _known(self, conversations: Iterable[Document]) -> dict[ObjectId, ClosingResult]:
        """Return the first request's receipt for each closing that has one, even if the policy has changed since."""
        keys: dict[ObjectId, dict[str, ObjectId]] = defaultdict(dict)
        for conversation in conversations:
            request_id = closing_id(conversation["_id"], conversation["resolvedAt"])
            keys[conversation["organizationId"]][request_id] = conversation["_id"]
        if not keys:
            return {}
        branches = [{"organizationId": key, "requestId": {"$in": list(ids)}} for key, ids in keys.items()]
        ledger = self._service.ledger.collection.with_options(read_concern=_MAJORITY)
        with store_errors():
            entries = list(ledger.find({"$or": branches}))
        return {keys[entry["organizationId"]][entry["requestId"]]: _receipt(entry) for entry in entries}

    # --- new closings ---------------------------------------------------------------------------------

    def _accept_new(self, conversations: Sequence[Document], results: dict[ObjectId, ClosingResult]) -> None:
        admitted: list[tuple[Document, Policy]] = []
        skipped: list[tuple[Document, str]] = []
        for conversation, verdict in self._admit(conversations) if conversations else ():
            if isinstance(verdict, Policy):
                admitted.append((conversation, verdict))
            else:
                skipped.append((conversation, verdict))
        if skipped:
            results |= self._skip(skipped)
        if admitted:
            now = self._service.clock.now()
            requests = [self._request(conversation, policy, now) for conversation, policy in admitted]
            self._write([conversation for conversation, _ in admitted], requests, results)

    def _write(
        self, conversations: Sequence[Document], requests: Sequence[NewRequest], results: dict[ObjectId, ClosingResult]
    ) -> None:
        answers = self._service.accept(requests)
        results |= {document["_id"]: answer for document, answer in zip(conversations, answers, strict=True)}
        # Refused because another source was faster, under a policy that has changed since, or because the snapshot was
        # deleted.
        refused = [document for document in conversations if isinstance(results[document["_id"]], Refused)]
        results |= self._known(refused)
        accepted = [answer for answer in answers if isinstance(answer, Receipt) and answer.created]
        undated = [undated_id(document["_id"]) for document in conversations]
        self.skipped.forget([*(receipt.request_id for receipt in accepted), *(undated if accepted else ())])

    def _request(self, conversation: Document, policy: Policy, now: datetime) -> NewRequest:
        # Not validated again: the policy's labels stay valid even if the limits were changed after they were set.
        request = SnapshotRequest.model_construct(
            organization_id=conversation["organizationId"],
            contact_id=conversation["contactId"],
            conversation_id=conversation["_id"],
            tags=policy.tags,
            category=policy.category,
            quality=policy.quality,
        )
        # A platform whose clock is ahead must not delay its closings.
        due = min(conversation["resolvedAt"], now) + policy.settle_delay(self._settings)
        request_id = closing_id(conversation["_id"], conversation["resolvedAt"])
        if due > now:
            return NewRequest(request, request_id, TRIGGER, BULK, due)
        queue = INTERACTIVE if self._allowance.take(request.organization_id) else BULK
        return NewRequest(request, request_id, TRIGGER, queue)


def _is_same_organization(conversation: Document, report: ClosingReport) -> bool:
    """Return whether a report may name this conversation. A report from the database itself names no organization."""
    return report.organization_id in (None, conversation.get("organizationId"))


def _receipt(entry: LedgerEntry) -> Receipt:
    return Receipt(entry, created=False)
