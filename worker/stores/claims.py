"""Claims: a run claims single requests, so that no other run starts them.

A claim is a key in Redis that lives slightly longer than a run. It only avoids duplicate work: if two runs process the
same request, the transaction that decides it succeeds in only one of them. If a run dies, the sweep releases its claims
and enqueues the requests again.

The value of a claim makes Flower show failures: the task of a request that failed before its message arrived should end
as failed, too. The value is empty, or says that the message has arrived, or that the request has failed.
"""

from collections.abc import Iterable, Sequence

from bson import ObjectId

from worker.stores.connections import Connections, broker_errors
from worker.stores.wakeups import INTERACTIVE

_ARRIVED, _FAILED = b"arrived", b"failed"
_MARGIN_SECONDS = 2
"""How much longer a claim lives than the longest run, in seconds."""
_AHEAD_MS = 120_000
"""Lifetime of a claim on a request that is run before its message arrives. That message waits in a long queue, and once
it arrives the claim shows that nothing is left to do. If the run dies, the sweep releases the claim and counts the run
as unended; no other run takes the request ahead of its message before that."""


class Claims:
    """Claims requests by ledger id. Each method costs one round trip and raises BrokerUnavailable."""

    def __init__(self, connections: Connections) -> None:
        self._redis = connections.redis
        self._life = round((connections.settings.run_deadline.total_seconds() + _MARGIN_SECONDS) * 1000)

    def claim_ahead(self, keys: Sequence[ObjectId]) -> list[ObjectId]:
        """Claim requests before their messages arrive; return those that no other run had claimed."""
        with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.set(_name(key), b"", nx=True, px=_AHEAD_MS)
            taken = pipeline.execute()
        return [key for key, mine in zip(keys, taken, strict=True) if mine]

    def claim_arrived(self, keys: Sequence[ObjectId]) -> tuple[list[ObjectId], int]:
        """Claim the requests of a message that has arrived; return those to run, and how many messages are queued.

        Those to run are the requests that no other run had claimed, and those that failed before the message arrived,
        whose failure its task has to report.
        """
        with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.set(_name(key), b"", nx=True, px=self._life)
                pipeline.set(_name(key), _ARRIVED, xx=True, get=True, keepttl=True)
            pipeline.llen(INTERACTIVE)
            *replies, waiting = pipeline.execute()
        outcomes = zip(keys, replies[::2], replies[1::2], strict=True)
        return [key for key, mine, value in outcomes if mine or value == _FAILED], int(waiting)

    def mark_failed(self, keys: Sequence[ObjectId]) -> list[ObjectId]:
        """Record that requests failed; return those whose message had arrived before the failure."""
        with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.set(_name(key), _FAILED, xx=True, get=True, keepttl=True)
            values = pipeline.execute()
        return [key for key, value in zip(keys, values, strict=True) if value == _ARRIVED]

    def check(self) -> None:
        """Raise BrokerUnavailable if Redis accepts no writes, for example after a failover while it has no replicas."""
        with broker_errors():
            self._redis.set(_name(ObjectId()), b"", px=1)

    def release(self, keys: Iterable[ObjectId]) -> None:
        """Remove the claims on these requests, so that other runs can start them."""
        if names := [_name(key) for key in keys]:
            with broker_errors():
                self._redis.unlink(*names)


def _name(key: ObjectId) -> str:
    return f"snapshots:claim:{key}"
