"""The progress of a backfill, which users see, and the checkpoint from which its next slice continues."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from bson import ObjectId

from worker.backfills.selection import Position
from worker.jobs.job import Job

_ID_BYTES = 12


@dataclass
class Progress:
    """Counts of conversations and of their requests."""

    conversations: int | None = None
    """How many conversations are selected, or None while they are still being counted."""
    requests: int = 0
    """How many requests are accepted, both new ones and those that existed before."""
    accepted: int = 0
    """How many of `requests` did not exist before this backfill."""
    completed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """How many requests failed, by error code."""
    deleted: int = 0
    """How many conversations had a snapshot that was deleted. They get no new one."""
    refused: Counter[str] = field(default_factory=Counter)
    """For how many conversations no request could be made, by error code."""

    @property
    def failed(self) -> int:
        """The number of requests that failed."""
        return self.failures.total()

    @property
    def in_flight(self) -> int:
        """The number of requests without an outcome."""
        return self.requests - self.completed - self.failed

    @classmethod
    def of(cls, job: Job) -> Self:
        """Read the progress of a job."""
        return cls.read(job.result or job.progress or {})

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """Read what `as_fields` returned."""
        counts = {name: fields.get(name, 0) for name in ("requests", "accepted", "completed", "deleted")}
        failures, refused = (Counter[str](fields.get(name) or {}) for name in ("failures", "refused"))
        return cls(fields.get("conversations"), **counts, failures=failures, refused=refused)

    def as_fields(self) -> dict[str, Any]:
        """Return the counts as a JSON object with camelCase names."""
        return {
            "conversations": self.conversations,
            "requests": self.requests,
            "accepted": self.accepted,
            "completed": self.completed,
            "failed": self.failed,
            "inFlight": self.in_flight,
            "deleted": self.deleted,
            "failures": dict(self.failures),
            "refused": dict(self.refused),
        }


@dataclass
class Checkpoint:
    """The state of a backfill from which its next slice continues, stored in the job's record."""

    counted: int = 0
    """How many conversations are counted so far, if every page has to be read to count them."""
    counted_after: Position = None
    after: Position = None
    """The last conversation that was requested."""
    taken: int = 0
    """How many conversations were requested or refused. `limit` applies to this number."""
    exhausted: bool = False
    """Whether no conversations are left to request."""
    open: list[ObjectId] = field(default_factory=list)
    """Accepted requests whose outcome is not counted yet."""

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Self:
        """Read what `as_fields` returned."""
        known = {name: value for name, value in fields.items() if name != "open"}
        packed = bytes(fields.get("open", b""))
        ids = [ObjectId(packed[first : first + _ID_BYTES]) for first in range(0, len(packed), _ID_BYTES)]
        return cls(**known, open=ids)

    def as_fields(self) -> dict[str, Any]:
        """Return the fields to store.

        The ids are packed, because thousands of them are written several times a second.
        """
        return {**vars(self), "open": b"".join(each.binary for each in self.open)}
