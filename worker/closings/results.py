"""Reports of resolved conversations, and their results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from bson import ObjectId

from worker.errors import NotResolvedYet, SnapshotError, StoreUnavailable, TransientError, UnexpectedError
from worker.service import Receipt


class ClosingReport(Protocol):
    """A report that a conversation was resolved."""

    @property
    def organization_id(self) -> ObjectId | None: ...
    @property
    def conversation_id(self) -> ObjectId: ...


@dataclass(frozen=True, slots=True)
class ClosedConversation:
    """A resolved conversation. `organization_id` is None if the report comes from the database itself."""

    organization_id: ObjectId | None
    conversation_id: ObjectId


@dataclass(frozen=True, slots=True)
class Skipped:
    """A closing for which no snapshot is made, because of the policy or of the conversation itself."""

    reason: str
    first: bool
    """True if no source has reported this closing as skipped before."""


ClosingResult = Receipt | Skipped | SnapshotError


@dataclass(frozen=True, slots=True)
class ClosingTally:
    """The results of submitted closings, in the order of the reports."""

    closings: Sequence[ClosingReport]
    results: Sequence[ClosingResult]

    @property
    def receipts(self) -> list[Receipt]:
        """One receipt per request, even if several reports named the same closing."""
        receipts = (result for result in self.results if isinstance(result, Receipt))
        return list({receipt.id: receipt for receipt in receipts}.values())

    @property
    def accepted(self) -> int:
        """The number of new requests."""
        return sum(receipt.created for receipt in self.receipts)

    @property
    def skipped(self) -> list[Skipped]:
        """The closings for which no snapshot is made."""
        return [result for result in self.results if isinstance(result, Skipped)]

    def failures(self) -> Iterator[tuple[ClosingReport, SnapshotError]]:
        """Yield the reports that were neither accepted nor skipped, each with its error."""
        for closing, result in zip(self.closings, self.results, strict=True):
            if isinstance(result, SnapshotError):
                yield closing, result

    def to_repeat(self) -> list[tuple[ClosingReport, TransientError]]:
        """Return the reports that should be submitted again, each with its error.

        Reports with NotResolvedYet or UnexpectedError are left out, because repeating them would not help. Raises
        StoreUnavailable if any report has that error.
        """
        failed = [(closing, error) for closing, error in self.failures() if isinstance(error, TransientError)]
        for _, error in failed:
            if isinstance(error, StoreUnavailable):
                raise error
        return [pair for pair in failed if not isinstance(pair[1], NotResolvedYet | UnexpectedError)]
