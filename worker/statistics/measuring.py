"""Measures the snapshots that a filter selects."""

from dataclasses import dataclass

from bson import ObjectId

from worker.domain.snapshot_filter import SnapshotFilter
from worker.statistics.counts import Selection, count, count_duplicates
from worker.statistics.figures import Statistics
from worker.statistics.lengths import MESSAGES, lengths
from worker.statistics.sampling import take_sample
from worker.stores.connections import Connections, store_errors


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the time and size of a measurement."""

    sample: int
    """Maximum number of snapshots in the sample."""
    sample_seconds: float
    """Time limit for reading the sample, in seconds. If it runs out, the sample is smaller."""
    count_seconds: float
    """MongoDB's time limit for each aggregation, in seconds."""


def measure(connections: Connections, organization: ObjectId, selected: SnapshotFilter, limits: Limits) -> Statistics:
    """Measure what an organization's snapshots contain, all of it at one moment.

    Args:
        connections: The connections of this process.
        organization: The organization.
        selected: Which of its snapshots count.
        limits: How long the measurement may take, and how large its sample may be.

    Returns:
        Exact counts by quality, category, tag, month and length, and figures of a random sample.

    Raises:
        StatisticsTooSlow: A count took longer than `limits.count_seconds`. Narrow the selection.
        StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; it is safe to try again.
    """
    collection = connections.database[connections.settings.snapshots_collection]
    with store_errors(), connections.mongo.start_session(snapshot=True) as session:
        selection = Selection(collection, selected.condition(organization), session, limits.count_seconds)
        counted = count(selection)
        total = counted.snapshots
        return Statistics(
            organization_id=organization,
            snapshots=total,
            messages=lengths(counted.message_counts, MESSAGES),
            duplicates=count_duplicates(selection),
            sample=take_sample(connections, organization, selection, total, limits.sample, limits.sample_seconds),
            **counted.values,
        )
