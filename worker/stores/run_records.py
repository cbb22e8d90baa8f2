"""Records in Redis of the runs in progress: which requests each run works on, and since when.

A run whose process was killed leaves its record behind. That is how the sweep tells a request that may have killed its
worker from one whose message was lost in Redis. The records are the fields of one hash in Redis, so a run costs two
short commands, whatever its size.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from worker.clock import from_milliseconds, milliseconds
from worker.stores.connections import Connections, broker_errors

RUNS_KEY = "snapshots:runs"
_TIME = struct.Struct(">q")
_ID_BYTES = 12


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run that has not ended, as far as Redis knows."""

    run: ObjectId
    began_at: datetime
    keys: list[ObjectId]


class RunRecords:
    """The records of all processes. One instance per process. Every method raises BrokerUnavailable."""

    def __init__(self, connections: Connections) -> None:
        self._redis = connections.redis
        self._ended: dict[ObjectId, Sequence[ObjectId]] = {}
        """Ended runs of this process whose records may still be in Redis."""

    def begin(self, run: ObjectId, keys: Sequence[ObjectId], at: datetime) -> None:
        """Record that a run begins to work on these requests.

        Args:
            run: The id of the run.
            keys: The ledger ids of its requests.
            at: The time by MongoDB's clock, by which the sweep recognizes a dead run.
        """
        with broker_errors():
            self._redis.hset(RUNS_KEY, run.binary, _TIME.pack(milliseconds(at)) + b"".join(key.binary for key in keys))

    def end(
        self, run: ObjectId, keys: Sequence[ObjectId], on_missing: Callable[[Sequence[ObjectId], ObjectId], object]
    ) -> None:
        """Remove the record of a run, and any that an earlier call could not remove.

        Calls `on_missing(keys, run)` for a run whose record is missing, because a sweep may have counted it as dead.
        If `on_missing` raises, the next call of `end` repeats it.
        """
        self._ended[run] = keys
        ended = list(self._ended.items())
        with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
            for each, _ in ended:
                pipeline.hdel(RUNS_KEY, each.binary)
            removed = pipeline.execute()
        for (each, its_keys), was_there in zip(ended, removed, strict=True):
            if not was_there:
                on_missing(its_keys, each)
            del self._ended[each]

    def remove(self, run: ObjectId) -> None:
        """Remove the record of a run whose process died."""
        with broker_errors():
            self._redis.hdel(RUNS_KEY, run.binary)

    def __iter__(self) -> Iterator[RunRecord]:
        with broker_errors():
            found: dict[Any, Any] = self._redis.hgetall(RUNS_KEY)
        for field, value in found.items():
            if record := _read(field, value):
                yield record


def _read(field: bytes, value: bytes) -> RunRecord | None:
    """Read one field of the hash; None if it is not one of ours."""
    ids = value[_TIME.size :]
    if len(field) != _ID_BYTES or len(value) < _TIME.size or len(ids) % _ID_BYTES:
        return None
    try:
        began_at = from_milliseconds(_TIME.unpack_from(value)[0])
    except (ValueError, OverflowError, OSError):
        return None
    keys = [ObjectId(ids[first : first + _ID_BYTES]) for first in range(0, len(ids), _ID_BYTES)]
    return RunRecord(ObjectId(field), began_at, keys)
