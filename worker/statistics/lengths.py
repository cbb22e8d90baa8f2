"""Histograms, medians and percentiles of lengths. Pure."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from worker.statistics.figures import Bucket, Lengths

MESSAGES = (0, 1, 2, 6, 11, 21, 51, 101, 501)
CHARACTERS = (0, 1, 101, 501, 1001, 5001, 10_001, 50_001)
"""The lower bounds of the buckets."""


def lengths(counts: Mapping[int, int], beginnings: Sequence[int]) -> Lengths:
    """Return the figures for lengths. `counts`: the number of snapshots by length."""
    ordered = sorted(counts)
    return Lengths(
        snapshots=sum(counts.values()),
        median=_percentile(counts, ordered, 50),
        p90=_percentile(counts, ordered, 90),
        longest=ordered[-1] if ordered else None,
        buckets=[
            Bucket(
                least=least,
                most=None if following is None else following - 1,
                snapshots=sum(
                    counts[each] for each in ordered if least <= each and (following is None or each < following)
                ),
            )
            for least, following in pairwise([*beginnings, None])
            if least is not None
        ],
    )


def _percentile(counts: Mapping[int, int], ordered: Sequence[int], percent: int) -> int | None:
    """Return the smallest length that `percent` of the snapshots do not exceed (nearest-rank method)."""
    rank = math.ceil(sum(counts.values()) * percent / 100)
    below = 0
    for length in ordered:
        below += counts[length]
        if below >= rank:
            return length
    return None
