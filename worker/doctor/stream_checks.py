"""Checks that the intake stream and the event stream are read."""

from collections.abc import Iterator
from datetime import timedelta

from worker.doctor.findings import Finding, failure, ok, warning
from worker.metrics.gauges import BrokerGauges, read_broker
from worker.stores import heartbeat
from worker.stores.connections import Connections, broker_errors

_INTAKE_LATE = timedelta(minutes=1)
_CONSUMER_LATE = timedelta(hours=1)
_START = "Start `snapshots listen`. If a listener is running, its log says what blocks it."


def check(connections: Connections) -> Iterator[Finding]:
    """Check the intake stream, its consumer group and the rejected entries. Raises BrokerUnavailable."""
    names = connections.settings
    found = read_broker(connections)
    if found.intake is None:
        yield failure(
            f"The stream {names.requests_stream} has no consumer group {names.consumer_group}, so no one reads it.",
            "Start `snapshots listen`. It creates the group at 0, so no entry is skipped.",
        )
    else:
        listeners = alive_listeners(connections)
        if not listeners:
            yield failure(f"No listener reads {names.requests_stream}.", _START)
        else:
            yield ok(f"listeners: {listeners}, entries in progress: {found.intake.pending}")
        yield from _intake_lag(found)
    yield from _consumers(found)
    if found.rejected:
        yield ok(f"{found.rejected} rejected entries in {names.rejected_stream}")


def alive_listeners(connections: Connections) -> int:
    """Count the listeners that have read recently. Raises BrokerUnavailable."""
    names = connections.settings
    with broker_errors():
        return heartbeat.count_listeners(connections.redis, names.requests_stream, names.consumer_group)


def _intake_lag(found: BrokerGauges) -> Iterator[Finding]:
    if found.intake and found.intake.oldest and (age := found.now - found.intake.oldest) > _INTAKE_LATE:
        yield failure(f"The oldest unread intake entry has been waiting for {age.total_seconds():,.0f} s.", _START)


def _consumers(found: BrokerGauges) -> Iterator[Finding]:
    for name, group in found.consumers.items():
        age = found.now - group.oldest if group.oldest else timedelta(0)
        if age > _CONSUMER_LATE:
            yield warning(
                f"The consumer group {name} of the event stream is {age.total_seconds() / 3600:,.1f} h behind.",
                "Check its consumer before events are trimmed by age, or remove the group with XGROUP DESTROY.",
            )
        else:
            yield ok(f"the event stream's consumer group {name} is up to date")
