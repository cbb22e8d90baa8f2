"""The figures as Prometheus' metric families. No label holds an id, a name or a text of anyone's."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from worker.domain.requests import COMPLETED, FAILED, Trigger
from worker.metrics.gauges import BrokerGauges, StoreGauges
from worker.metrics.outcomes import BUCKETS, NOT_TIMED, Kind, Outcomes, Sums, Waiting
from worker.metrics.rejections import Rejections
from worker.stores.stats import Identity

Labels = tuple[str, ...]
TRIGGERS: tuple[str, ...] = get_args(Trigger)


class HighWater:
    """Counters that never fall: a redrive takes a failure back that was shown but not added to the totals yet.

    Prometheus takes a counter that falls for one that began anew, and would count all of it again.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, Labels], float] = {}

    def __call__(self, name: str, labels: Labels, value: float) -> float:
        highest = self._seen[name, labels] = max(value, self._seen.get((name, labels), 0.0))
        return highest


def of_outcomes(found: Outcomes, rising: HighWater) -> Iterator[Metric]:
    """Counters of requests, and what is in flight. At all times accepted = completed + failed + in flight."""
    sums: dict[str, dict[Labels, float]] = {name: {} for name in _COUNTERS}
    for trigger in sorted({*TRIGGERS, *found.waiting, *(kind.trigger for kind in found.finished)}):
        for name, value in _counts(trigger, found).items():
            sums[name][(trigger,)] = value
    for kind, each in found.finished.items():
        if kind.status == FAILED:
            labels = (kind.trigger, kind.code or "unknown")
            sums["failed"][labels] = sums["failed"].get(labels, 0) + each.requests
    for name, (about, labelled) in _COUNTERS.items():
        yield counter(name, about, labelled, sums[name], rising)
    yield _histogram(found.finished, rising)
    yield gauge(
        "in_flight",
        "Requests that are accepted and have no outcome yet",
        ("trigger",),
        {(name,): found.waiting.get(name, Waiting()).requests for name in sorted({*TRIGGERS, *found.waiting})},
    )
    since = min((each.since for each in found.waiting.values() if each.since), default=None)
    yield gauge(
        "oldest_waiting_seconds", "How long the oldest due request has had no outcome", (), {(): _age(since, found.at)}
    )


_BY = ("trigger",)
_COUNTERS: dict[str, tuple[str, Labels]] = {
    "accepted": ("Requests accepted; one that is redriven, again", _BY),
    "completed": ("Requests completed", _BY),
    "unchanged": ("Of the completed, those that found the snapshot there already", _BY),
    "failed": ("Requests failed", ("trigger", "code")),
    "retried": ("Attempts of a request that failed and were repeated", _BY),
    "swept": ("Wake-up calls that were lost and repeated by the sweep", _BY),
}


def _counts(trigger: str, found: Outcomes) -> dict[str, float]:
    mine = [(kind, each) for kind, each in found.finished.items() if kind.trigger == trigger]
    waiting = found.waiting.get(trigger, Waiting())
    completed = [(kind, each.requests) for kind, each in mine if kind.status == COMPLETED]
    return {
        "accepted": sum(each.requests for _, each in mine) + waiting.requests,
        "completed": sum(count for _, count in completed),
        "unchanged": sum(count for kind, count in completed if kind.unchanged),
        "retried": sum(each.attempts for _, each in mine) + waiting.attempts,
        "swept": sum(each.swept for _, each in mine) + waiting.swept,
    }


def _histogram(finished: dict[Kind, Sums], rising: HighWater) -> HistogramMetricFamily:
    family = HistogramMetricFamily(
        "snapshots_accept_to_event_seconds", "From the accept of a request to its event", labels=_BY
    )
    counts: dict[str, list[int]] = {name: [0] * (len(BUCKETS) + 1) for name in TRIGGERS}
    seconds: dict[str, float] = defaultdict(float)
    for kind, each in finished.items():
        if kind.bucket != NOT_TIMED:
            counts.setdefault(kind.trigger, [0] * (len(BUCKETS) + 1))[kind.bucket] += each.requests
            seconds[kind.trigger] += each.seconds
    for trigger, each_count in counts.items():
        so_far, cumulative = 0, []
        for bound, count in zip([*map(str, BUCKETS), "+Inf"], each_count, strict=True):
            so_far += count
            cumulative.append((bound, rising("le", (trigger, bound), so_far)))
        family.add_metric((trigger,), cumulative, rising("seconds", (trigger,), seconds[trigger]))
    return family


def of_rejections(found: Rejections, rising: HighWater) -> Iterator[Metric]:
    """By the way in, since a refused entry's trigger may be what is wrong with it."""
    yield counter("rejected", "Intake entries refused, by way in", ("trigger", "code"), found, rising)


def of_broker(found: BrokerGauges) -> Iterator[Metric]:
    """Queues, streams, memory."""
    queues = {(name,): float(length) for name, length in found.queues.items()}
    yield gauge("queue_messages", "Messages that wait in a queue", ("queue",), queues)
    yield gauge("unacked_messages", "Messages that workers have and did not acknowledge yet", (), {(): found.unacked})
    oldest = {(name,): _age(since, found.now) for name, since in found.oldest.items()}
    yield gauge("queue_oldest_seconds", "How long the oldest message of a queue has waited", ("queue",), oldest)
    if found.intake:
        unread = {} if found.intake.lag is None else {(): float(found.intake.lag)}
        yield gauge("intake_lag_entries", "Intake entries that no listener was given yet", (), unread)
        yield gauge(
            "intake_pending_entries", "Intake entries given and not acknowledged", (), {(): found.intake.pending}
        )
        age = {(): _age(found.intake.oldest, found.now)}
        yield gauge("intake_lag_seconds", "How long the oldest of them has waited for a listener", (), age)
    lags = {(name,): float(each.lag) for name, each in found.consumers.items() if each.lag is not None}
    yield gauge("event_consumer_lag_entries", "Events that a consumer group was not given yet", ("group",), lags)
    ages = {(name,): _age(each.oldest, found.now) for name, each in found.consumers.items()}
    yield gauge("event_consumer_lag_seconds", "How long the oldest of them has waited", ("group",), ages)
    yield gauge("rejected_entries", "Entries in the stream of refused ones", (), {(): found.rejected})
    yield gauge("redis_memory_bytes", "Memory that Redis uses", (), {(): found.memory})
    yield gauge(
        "redis_memory_limit_bytes", "maxmemory, or the machine's memory where it is 0", (), {(): found.memory_limit}
    )


def of_store(found: StoreGauges, at: datetime) -> Iterator[Metric]:
    """The outbox, closings without a snapshot, the sweep."""
    yield gauge("events_unsent", "Outcomes whose event is not out", (), {(): found.unsent})
    yield gauge("event_lag_seconds", "How long the oldest of them has waited", (), {(): _age(found.unsent_since, at)})
    reasons = {(name,): float(count) for name, count in found.left_out.items()}
    yield gauge("left_out", "Closings of the last week that made no snapshot", ("reason",), reasons)
    if found.swept_at:
        yield gauge("sweep_age_seconds", "Since the last sweep began", (), {(): _age(found.swept_at, at)})


def of_identities(known: Sequence[Identity]) -> Iterator[Metric]:
    """Whether the counts of each organization add up."""
    yield gauge("organizations", "Organizations with requests", (), {(): len(known)})
    about = "Organizations where accepted is not completed + failed + in flight, or a snapshot is missing or too many"
    yield gauge("identity_broken", about, (), {(): sum(not each.holds for each in known)})


def of_servers(*, mongo: bool, redis: bool) -> Metric:
    """What could be read."""
    return gauge("server_up", "Whether the server answers", ("server",), {("mongo",): mongo, ("redis",): redis})


def counter(name: str, about: str, labelled: Labels, values: Mapping[Any, float], rising: HighWater) -> Metric:
    """`snapshots_<name>_total`."""
    family = CounterMetricFamily(f"snapshots_{name}", about, labels=labelled)
    for labels, value in values.items():
        family.add_metric(labels, rising(name, labels, value))
    return family


def gauge(name: str, about: str, labelled: Labels, values: Mapping[Any, float]) -> Metric:
    """`snapshots_<name>`, by the values of its labels."""
    family = GaugeMetricFamily(f"snapshots_{name}", about, labels=labelled)
    for labels, value in values.items():
        family.add_metric(labels, float(value))
    return family


def _age(since: datetime | None, now: datetime) -> float:
    """0 where nothing waits."""
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
