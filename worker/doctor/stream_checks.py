"""The intake stream and the event stream: their groups, and whether someone reads."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import redis

from worker.doctor.findings import Finding, failure, ok, warning
from worker.metrics.gauges import BrokerGauges, read_broker
from worker.stores.connections import Connections, broker_errors

_ALIVE_MS = 10_000
"""A listener asks for entries every second."""
_LATE = timedelta(minutes=1)
_CONSUMER_LATE = timedelta(hours=1)
_START = "Start `snapshots listen`; its log says what keeps it."


def check(connections: Connections) -> Iterator[Finding]:
    """Raises BrokerUnavailable."""
    names = connections.settings
    found = read_broker(connections)
    if found.intake is None:
        yield failure(
            f"The stream {names.requests_stream} has no consumer group {names.consumer_group}: no one takes it in.",
            "Start `snapshots listen`; it creates the group at 0, so that nothing is passed over.",
        )
    else:
        listeners = alive_listeners(connections)
        if not listeners:
            yield failure(f"No listener reads {names.requests_stream}.", _START)
        else:
            yield ok(f"{listeners} listener(s), {found.intake.pending} entries in hand")
        yield from _intake_lag(found)
    yield from _consumers(found)
    if found.rejected:
        yield ok(f"{found.rejected} refused entries in {names.rejected_stream}")


def alive_listeners(connections: Connections) -> int:
    """Consumers of the intake group that have asked for entries just now. Raises BrokerUnavailable."""
    names = connections.settings
    client: Any = connections.redis
    with broker_errors():
        try:
            consumers = client.xinfo_consumers(names.requests_stream, names.consumer_group)
        except redis.ResponseError:
            return 0
    return sum(each["idle"] < _ALIVE_MS for each in consumers)


def _intake_lag(found: BrokerGauges) -> Iterator[Finding]:
    if found.intake and found.intake.oldest and (age := found.now - found.intake.oldest) > _LATE:
        yield failure(f"The oldest unread intake entry waits for {age.total_seconds():,.0f} s.", _START)


def _consumers(found: BrokerGauges) -> Iterator[Finding]:
    for name, group in found.consumers.items():
        age = found.now - group.oldest if group.oldest else timedelta(0)
        if age > _CONSUMER_LATE:
            yield warning(
                f"The consumer group {name} of the events is {age.total_seconds() / 3600:,.1f} h behind.",
                "Look after its consumer, or XGROUP DESTROY it: events are trimmed by age.",
            )
        else:
            yield ok(f"the events' consumer group {name} is up to date")
