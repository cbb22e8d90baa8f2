"""Shares workers fairly between organizations, so that none waits behind the many requests of another.

Workers take turns between the interactive and the bulk queue. An organization with few requests uses the interactive
queue. One with many uses the bulk queue, where its requests share chunks and delay nobody else.
"""

import time
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator
from typing import Generic, TypeVar

Organization = TypeVar("Organization", bound=Hashable)
Item = TypeVar("Item")


def smallest(organizations: Iterable[Organization], max_requests: int) -> set[Organization]:
    """Return the organizations with the fewest requests, as many as fit into `max_requests` requests in total.

    `organizations`: the organization of each request.
    """
    found: set[Organization] = set()
    for organization, count in reversed(Counter(organizations).most_common()):
        max_requests -= count
        if max_requests < 0:
            break
        found.add(organization)
    return found


class Allowance:
    """Limits how many requests of each organization go to the interactive queue in a second. Not thread-safe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._second = 0
        self._counts: Counter[Hashable] = Counter()

    def take(self, organization: Hashable) -> bool:
        """Count a request; return whether it is within the limit of this second."""
        if self._second != (second := int(time.monotonic())):
            self._second, self._counts = second, Counter()
        self._counts[organization] += 1
        return self._counts[organization] <= self._limit


class Turns(Generic[Item]):
    """A queue in which organizations take turns, one item each. Items of the same organization keep their order."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[Item]] = {}
        self._turns: deque[Hashable] = deque()
        """Every organization with waiting items, once, beginning with the one whose turn is next."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        for items in self._waiting.values():
            yield from items

    def add(self, organization: Hashable, item: Item) -> None:
        """Add an item behind those of its organization."""
        if organization not in self._waiting:
            self._waiting[organization] = deque()
            self._turns.append(organization)
        self._waiting[organization].append(item)
        self._count += 1

    def take(self) -> Item:
        """Remove and return the next item. Raises IndexError if none waits."""
        organization = self._turns.popleft()
        items = self._waiting[organization]
        item = items.popleft()
        if items:
            self._turns.append(organization)
        else:
            del self._waiting[organization]
        self._count -= 1
        return item
