"""The backlog of a listener: entries that were delivered to it and wait for their turn.

Organizations take turns, one entry each, so an organization that floods the stream delays the others by no more than a
batch. Entries of the same organization keep their order. While they wait, the entries are pending in Redis: if this
process dies, another listener claims them.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from worker.domain.fair_shares import Turns
from worker.intake.entries import DATA_FIELD
from worker.intake.stream import BATCH_BYTES, IntakeEntry

_MAX_ENTRIES, _MAX_BYTES = 50_000, 32_000_000
"""Maximum number of entries and of bytes that a backlog holds. Further entries wait in the stream, in their order."""
_FIELD_BYTES = 100
_ORGANIZATION = re.compile(rb'"organizationId"\s*:\s*"([0-9a-fA-F]{24})"')


def organization_of(entry: IntakeEntry) -> bytes | None:
    """Return the organization that an entry seems to name, as hex digits.

    Not validated: it serves only for taking turns.
    """
    found: list[bytes] = _ORGANIZATION.findall((entry.fields or {}).get(DATA_FIELD, b""))
    return found[-1].lower() if found else None  # of a repeated key the last value counts


class Backlog:
    """Entries that were delivered and wait, by organization. Organizations take turns."""

    def __init__(self) -> None:
        self._turns = Turns[IntakeEntry]()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._turns)

    @property
    def is_full(self) -> bool:
        """Whether no more entries should be read for now."""
        return len(self._turns) >= _MAX_ENTRIES or self._bytes >= _MAX_BYTES

    def ids(self) -> Iterator[str]:
        """Yield the ids of the waiting entries."""
        return (entry.id for entry in self._turns)

    def add(self, entries: Iterable[IntakeEntry]) -> None:
        """Add entries behind the waiting ones of their organizations."""
        for entry in entries:
            self._turns.add(organization_of(entry), entry)
            self._bytes += _weight(entry)

    def take(self, count: int) -> Sequence[IntakeEntry]:
        """Remove and return up to `count` entries, organizations taking turns, until they hold BATCH_BYTES or more."""
        taken: list[IntakeEntry] = []
        size = 0
        while self._turns and len(taken) < count and size < BATCH_BYTES:
            taken.append(entry := self._turns.take())
            size += entry.size
            self._bytes -= _weight(entry)
        return taken


def _weight(entry: IntakeEntry) -> int:
    """Return about how many bytes of memory an entry takes, to which its fields add much more than their texts."""
    return entry.size + _FIELD_BYTES * entry.field_count
