"""Turns figures into Prometheus metric families. No label holds an id, a name or a text of a person."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from worker.domain.ledger_entry import COMPLETED, FAILED
from worker.domain.requests import Trigger
from worker.metrics.gauges import BrokerGauges, StoreGauges
from worker.metrics.outcome_groups import BUCKETS, NOT_TIMED, InFlight, Kind, Sums
from worker.metrics.outcomes import Outcomes
from worker.metrics.rejections import RejectionCounts
from worker.stores.counts import Totals

Labels = tuple[str, ...]
TRIGGERS: tuple[str, ...] = get_args(Trigger)


class HighWater:
    """Keeps counters from decreasing. A redrive can undo a failure that was shown but not yet added to the totals.

    Prometheus would treat a decrease as a reset, and count the whole value again.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, Labels], float] = {}

    def __call__(self, name: str, labels: Labels, value: float) -> float:
        highest = self._seen[name, labels] = max(value, self._seen.get((name, labels), 0.0))
        return highest


def of_outcomes(outcomes: Outcomes, high_water: HighWater) -> Iterator[Metric]:
    """Count requests and outcomes. At all times, accepted = completed + failed + in flight."""
    sums: dict[str, dict[Labels, float]] = {name: {} for name in _COUNTERS}
    for trigger in sorted({*TRIGGERS, *outcomes.in_flight, *(kind.trigger for kind in outcomes.finished)}):
        for name, value in _counts(trigger, outcomes).items():
            sums[name][(trigger,)] = value
    for kind, finished in outcomes.finished.items():
        if kind.status == FAILED:
            labels = (kind.trigger, kind.code or "unknown")
            sums["failed"][labels] = sums["failed"].get(labels, 0) + finished.requests
    for name, (about, labelled) in _COUNTERS.items():
        yield counter(name, about, labelled, sums[name], high_water)
    yield _histogram(outcomes.finished, high_water)
    yield gauge(
        "in_flight",
        "Requests accepted that have no outcome yet",
        ("trigger",),
        {
            (name,): outcomes.in_flight.get(name, InFlight()).requests
            for name in sorted({*TRIGGERS, *outcomes.in_flight})
        },
    )
    since = min((waiting.since for waiting in outcomes.in_flight.values() if waiting.since), default=None)
    yield gauge(
        "oldest_waiting_seconds",
        "Age in seconds of the oldest request that is due and has no outcome",
        (),
        {(): _age(since, outcomes.at)},
    )


_BY = ("trigger",)
_COUNTERS: dict[str, tuple[str, Labels]] = {
    "accepted": ("Requests accepted; a redrive counts again", _BY),
    "completed": ("Requests completed", _BY),
    "unchanged": ("Completed requests whose conversation had not changed since the previous snapshot", _BY),
    "failed": ("Requests failed", ("trigger", "code")),
    "retried": ("Attempts that failed and were retried", _BY),
    "swept": ("Lost wake-ups that the sweep sent again", _BY),
}


def _counts(trigger: str, outcomes: Outcomes) -> dict[str, float]:
    finished = [(kind, sums) for kind, sums in outcomes.finished.items() if kind.trigger == trigger]
    in_flight = outcomes.in_flight.get(trigger, InFlight())
    completed = [(kind, sums.requests) for kind, sums in finished if kind.status == COMPLETED]
    return {
        "accepted": sum(sums.requests for _, sums in finished) + in_flight.requests,
        "completed": sum(count for _, count in completed),
        "unchanged": sum(count for kind, count in completed if kind.unchanged),
        "retried": sum(sums.attempts for _, sums in finished) + in_flight.attempts,
        "swept": sum(sums.swept for _, sums in finished) + in_flight.swept,
    }


def _histogram(finished: dict[Kind, Sums], high_water: HighWater) -> HistogramMetricFamily:
    family = HistogramMetricFamily(
        "snapshots_accept_to_event_seconds", "Seconds from the acceptance of a request to its event", labels=_BY
    )
    counts: dict[str, list[int]] = {name: [0] * (len(BUCKETS) + 1) for name in TRIGGERS}
    seconds: dict[str, float] = defaultdict(float)
    for kind, sums in finished.items():
        if kind.bucket != NOT_TIMED:
            counts.setdefault(kind.trigger, [0] * (len(BUCKETS) + 1))[kind.bucket] += sums.requests
            seconds[kind.trigger] += sums.seconds
    for trigger, by_bucket in counts.items():
        so_far, cumulative = 0, []
        for bound, count in zip([*map(str, BUCKETS), "+Inf"], by_bucket, strict=True):
            so_far += count
            cumulative.append((bound, high_water("le", (trigger, bound), so_far)))
        family.add_metric((trigger,), cumulative, high_water("seconds", (trigger,), seconds[trigger]))
    return family


def of_rejections(counts: RejectionCounts, high_water: HighWater) -> Iterator[Metric]:
    """Count rejected entries by entry point, because the trigger in the entry may be the very fault."""
    yield counter(
        "rejected",
        "Rejected intake entries and Celery messages",
        ("trigger", "code"),
        counts,
        high_water,
    )


def of_broker(broker: BrokerGauges) -> Iterator[Metric]:
    """Yield the metrics of queues, streams and memory."""
    queues = {(name,): float(length) for name, length in broker.queues.items()}
    yield gauge("queue_messages", "Messages waiting in a queue", ("queue",), queues)
    yield gauge("unacked_messages", "Messages delivered to workers and not acknowledged yet", (), {(): broker.unacked})
    oldest = {(name,): _age(since, broker.now) for name, since in broker.oldest.items()}
    yield gauge("queue_oldest_seconds", "Age in seconds of the oldest message waiting in a queue", ("queue",), oldest)
    if broker.intake:
        unread = {} if broker.intake.lag is None else {(): float(broker.intake.lag)}
        yield gauge("intake_lag_entries", "Intake entries not delivered to a listener yet", (), unread)
        yield gauge(
            "intake_pending_entries",
            "Intake entries delivered to a listener and not acknowledged yet",
            (),
            {(): broker.intake.pending},
        )
        age = {(): _age(broker.intake.oldest, broker.now)}
        yield gauge("intake_lag_seconds", "Age in seconds of the oldest undelivered intake entry", (), age)
    lags = {(name,): float(group.lag) for name, group in broker.consumers.items() if group.lag is not None}
    yield gauge("event_consumer_lag_entries", "Events not delivered to a consumer group yet", ("group",), lags)
    ages = {(name,): _age(group.oldest, broker.now) for name, group in broker.consumers.items()}
    yield gauge(
        "event_consumer_lag_seconds",
        "Seconds since a consumer group's oldest undelivered event",
        ("group",),
        ages,
    )
    yield gauge("rejected_entries", "Entries in the stream of rejected entries", (), {(): broker.rejected})
    yield gauge("redis_memory_bytes", "Memory used by Redis, in bytes", (), _known(broker.memory))
    yield gauge(
        "redis_memory_limit_bytes",
        "maxmemory of Redis in bytes, or the memory of its machine if maxmemory is 0",
        (),
        _known(broker.memory_limit),
    )


def _known(value: float | None) -> dict[tuple[str, ...], float]:
    return {} if value is None else {(): value}


def of_store(store: StoreGauges) -> Iterator[Metric]:
    """Yield the metrics of the outbox, skipped closings and the sweep."""
    yield gauge("events_unsent", "Outcomes whose event has not been emitted", (), {(): store.unsent})
    yield gauge(
        "event_lag_seconds",
        "Age in seconds of the oldest event that has not been emitted",
        (),
        {(): _age(store.unsent_since, store.at)},
    )
    reasons = {(name,): float(count) for name, count in store.skipped.items()}
    yield gauge("left_out", "Closings of the last week for which no snapshot was made", ("reason",), reasons)
    if store.swept_at:
        yield gauge("sweep_age_seconds", "Seconds since the last sweep began", (), {(): _age(store.swept_at, store.at)})
    yield CounterMetricFamily("snapshots_expired", "Snapshots removed because of their age", value=store.expired)


def of_totals(totals: Totals, high_water: HighWater) -> Iterator[Metric]:
    """Yield the metrics of the identity and of the comparison of the stored counts."""
    known = totals.identities
    yield gauge("organizations", "Organizations with requests", (), {(): len(known)})
    about = "Stored counts of an organization that differed from a full count and were corrected"
    yield counter("count_mismatches", about, (), {(): totals.mismatches}, high_water)
    about = (
        "Organizations whose accepted requests are not completed + failed + in flight, or whose snapshots do not match"
    )
    yield gauge("identity_broken", about, (), {(): sum(not identity.holds for identity in known)})


def of_servers(*, mongo: bool, redis: bool) -> Metric:
    """Yield whether MongoDB and Redis answer."""
    return gauge(
        "server_up",
        "1 if the server answers within the time limit of a scrape, else 0",
        ("server",),
        {("mongo",): mongo, ("redis",): redis},
    )


def counter(name: str, about: str, labelled: Labels, values: Mapping[Any, float], high_water: HighWater) -> Metric:
    """Return the counter `snapshots_<name>_total`, which never decreases, not even if an older read arrives late.

    Args:
        name: The name without prefix and suffix.
        about: The help text.
        labelled: The names of the labels.
        values: The value for each combination of labels.
        high_water: The highest values that this process has reported.
    """
    family = CounterMetricFamily(f"snapshots_{name}", about, labels=labelled)
    for labels, value in values.items():
        family.add_metric(labels, high_water(name, labels, value))
    return family


def gauge(name: str, about: str, labelled: Labels, values: Mapping[Any, float]) -> Metric:
    """Return the gauge `snapshots_<name>`. See `counter` for the parameters."""
    family = GaugeMetricFamily(f"snapshots_{name}", about, labels=labelled)
    for labels, value in values.items():
        family.add_metric(labels, float(value))
    return family


def _age(since: datetime | None, now: datetime) -> float:
    """Return the age in seconds; 0 if nothing waits."""
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
