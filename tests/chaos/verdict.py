"""What the checker found: counts, and violations by kind."""

from collections import Counter
from dataclasses import dataclass, field

LOST, DUPLICATES, MISSING, DIFFER = "lost", "duplicates", "events missing", "events differ"
WRONG, IDENTITY, DURING, ERASED = "wrong outcome", "identity", "during the run", "erased, and found"
COUNTS = "kept counts"
KINDS = (LOST, DUPLICATES, MISSING, DIFFER, WRONG, IDENTITY, DURING, ERASED, COUNTS)
MOST_EXCUSED = 0.05
"""The largest share of bare XADDs whose absence may be excused: above it, the run proves too little about them."""
MOST_EXCUSED_MESSAGES = 0.75
"""The same for bare Celery messages. A failover covers all that were sent until the former primary is a replica."""
MOST_UNTAKEN = 0.05
"""The largest share of bare Celery messages that may be missing because no worker has taken them."""


@dataclass
class Verdict:
    """Counts, and violations by kind."""

    requests: Counter[str] = field(default_factory=Counter)
    """By channel."""
    outcomes: Counter[str] = field(default_factory=Counter)
    bare: int = 0
    """XADDs without a request id."""
    excusable: int = 0
    """Bare XADDs that Redis can have lost, whether they are missing or not: the check is blind to them."""
    excused: int = 0
    """Excusable ones that are missing: Redis lost them before they were accepted."""
    never_taken: int = 0
    """Bare XADDs without an answer, which never were in Redis."""
    messages: int = 0
    """Celery messages without a request id."""
    moved_messages: int = 0
    """Those that a worker has moved to the intake stream, because very many waited."""
    excusable_messages: int = 0
    """Messages without a request id that Redis can have lost, whether their requests are missing or not."""
    excused_messages: int = 0
    """Excusable ones whose requests are missing."""
    untaken: int = 0
    """Others whose requests are missing, and that no worker has taken: they were lost between a list and a worker."""
    events: int = 0
    repeated: int = 0
    """Events that are in the stream more than once."""
    violations: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    @property
    def holds(self) -> bool:
        return not any(self.violations.values())

    @property
    def excused_share(self) -> float:
        """The share of bare XADDs to which the check is blind."""
        return self.excusable / self.bare if self.bare else 0.0

    @property
    def excused_share_of_messages(self) -> float:
        """The share of bare Celery messages to which the check is blind."""
        return self.excusable_messages / self.messages if self.messages else 0.0

    @property
    def untaken_share(self) -> float:
        """The share of bare Celery messages that were lost between a list and a worker."""
        return self.untaken / self.messages if self.messages else 0.0
