"""Which requests go to the interactive queue, so that no organization waits behind the flood of another.

Workers take turns between the interactive and the bulk queue. An organization with few requests uses the former, and
one with many the latter, where its requests share chunks and nobody else waits behind them.
"""

import time
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import TypeVar

Organization = TypeVar("Organization", bound=Hashable)


def light(organizations: Iterable[Organization], most: int) -> set[Organization]:
    """Return the organizations with the fewest requests, as long as they amount to at most `most` requests together.

    `organizations` has the organization of each request.
    """
    found: set[Organization] = set()
    for organization, count in reversed(Counter(organizations).most_common()):
        most -= count
        if most < 0:
            break
        found.add(organization)
    return found


class Allowance:
    """How many requests of each organization may go to the interactive queue in a second. For one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._second = 0
        self._counts: Counter[Hashable] = Counter()

    def take(self, organization: Hashable) -> bool:
        """Count a request; return whether it is among the first ones of this second."""
        if self._second != (second := int(time.monotonic())):
            self._second, self._counts = second, Counter()
        self._counts[organization] += 1
        return self._counts[organization] <= self._most
