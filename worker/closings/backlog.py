"""Changes that were read from the change stream and wait for their turn.

Organizations take turns, so an organization that closes many conversations at once delays the others by no more than a
batch. The stored position is the one up to which everything is accepted: if this process dies, the next one reads on
from there, and finds that some closings already have a request.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from worker.domain.fair_shares import Turns

_MAX_CHANGES = 50_000
"""Maximum number of changes that the backlog holds. Further changes wait in the stream, in their order."""


@dataclass(frozen=True, slots=True)
class Position:
    """A position in the change stream: its resume token, and the time that it corresponds to."""

    token: Mapping[str, Any] | None
    reached: datetime


@dataclass(slots=True)
class _Read:
    """Changes that were read at once, with the position behind them."""

    end: Position
    left: int
    """How many of the changes are not accepted yet."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a conversation that may have closed it, read from the change stream."""

    conversation: ObjectId
    read: _Read


class ChangesBacklog:
    """Changes by organization, and the parts of the stream that they come from, in order."""

    def __init__(self) -> None:
        self._turns = Turns[Change]()
        self._reads: deque[_Read] = deque()

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def room(self) -> int:
        """How many more changes may be added."""
        return max(0, _MAX_CHANGES - len(self._turns))

    def add(self, conversations: Iterable[tuple[Hashable, ObjectId]], end: Position) -> None:
        """Add conversations, each with its organization. `end`: the position in the stream behind them."""
        read = _Read(end, 0)
        for organization, conversation in conversations:
            self._turns.add(organization, Change(conversation, read))
            read.left += 1
        self._reads.append(read)

    def take(self, count: int) -> Sequence[Change]:
        """Remove and return up to `count` changes, whose organizations take turns."""
        return [self._turns.take() for _ in range(min(count, len(self._turns)))]

    def settle(self, changes: Iterable[Change]) -> Position | None:
        """Record that these changes are accepted.

        Return the position up to which all are accepted, or None if it is unchanged.
        """
        for change in changes:
            change.read.left -= 1
        position = None
        while self._reads and self._reads[0].left == 0:
            position = self._reads.popleft().end
        return position
