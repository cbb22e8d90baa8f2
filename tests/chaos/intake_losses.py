"""Which intake entries and Celery messages Redis can have lost: decided by what it had before and after a fault."""

from collections.abc import Iterable
from dataclasses import dataclass

EntryId = tuple[int, int]
"""Milliseconds by Redis's clock, and the sequence number within them."""
NONE: EntryId = (0, 0)


def entry_id(text: str) -> EntryId:
    """Parses `1795869950386-0`."""
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence or 0)


@dataclass(frozen=True)
class Acknowledged:
    """Which entries of the stream have been acknowledged, so that their requests had to be durable."""

    delivered: EntryId = NONE
    """The last entry that was given to a listener."""
    pending: frozenset[EntryId] = frozenset()
    """Those up to it that were not acknowledged yet."""

    def __contains__(self, entry: EntryId) -> bool:
        return entry <= self.delivered and entry not in self.pending

    def after(self, delivered: EntryId, pending: frozenset[EntryId]) -> "Acknowledged":
        """Adds a later observation. What was acknowledged once stays so, also if it is delivered again."""
        new = {entry for entry in pending if entry > self.delivered}
        still = {entry for entry in self.pending if entry > delivered or entry in pending}
        return Acknowledged(max(self.delivered, delivered), frozenset(new | still))


@dataclass(frozen=True)
class Loss:
    """A flush, or a start of Redis from its append-only file, which holds a prefix of what the old process had."""

    at: int
    """Milliseconds by Redis's clock: entries that were added later are not affected."""
    kept: EntryId
    """The last id that the stream had handed out in the state that was kept; (0, 0) if nothing was kept."""
    acknowledged: Acknowledged
    """What had been acknowledged before."""
    read_at: float
    """When the witness last read the stream before the loss, in seconds since 1970."""
    gone_at: float
    """When the process died, or the flush was done: what was sent later cannot have been lost by it."""
    messages: frozenset[str] | None = None
    """The tokens of the Celery messages that Redis had, if all of them are lost; None if it has kept a prefix."""

    def covers(self, entry: EntryId) -> bool:
        """Whether the entry was in Redis, not acknowledged, and not in the state that was kept."""
        return self.kept < entry < (self.at, 0) and entry not in self.acknowledged

    def covers_unseen(self, sent_at: float, answered_at: float) -> bool:
        """Whether an entry without an answer may have been added after the last look and lost with the process."""
        return sent_at <= self.gone_at and answered_at >= self.read_at

    def covers_message(self, token: str, sent_at: float, answered_at: float) -> bool:
        """Whether a Celery message was in Redis, and may not be in the state that was kept.

        A state with the entry `kept` also has the messages that were published before that entry was added.
        """
        if self.messages is not None:
            return token in self.messages
        return sent_at * 1000 <= self.at and answered_at * 1000 >= self.kept[0]


def covered(losses: Iterable[Loss], entry: EntryId | None, sends: Iterable[tuple[float, float]]) -> bool:
    """Whether Redis can have lost this entry; `sends`: when it was sent and answered, if it has no known id."""
    if entry is not None:
        return any(loss.covers(entry) for loss in losses)
    return any(loss.covers_unseen(*send) for loss in losses for send in sends)
