"""Histograms and percentiles of lengths."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.statistics.lengths import CHARACTERS, MESSAGES, lengths


@given(st.lists(st.integers(0, 600), max_size=200))
def test_buckets_count_each_length_once_and_percentiles_cover_their_share(drawn: list[int]) -> None:
    figures = lengths({each: drawn.count(each) for each in drawn}, MESSAGES)
    assert figures.snapshots == sum(each.snapshots for each in figures.buckets) == len(drawn)
    for bucket in figures.buckets:
        within = [each for each in drawn if bucket.least <= each and (bucket.most is None or each <= bucket.most)]
        assert bucket.snapshots == len(within)
    if not drawn:
        assert (figures.median, figures.p90, figures.longest) == (None, None, None)
        return
    for value, share in ((figures.median, 0.5), (figures.p90, 0.9)):
        assert value in drawn
        assert sum(each <= value for each in drawn) >= share * len(drawn)
        assert sum(each < value for each in drawn) < share * len(drawn)
    assert figures.longest == max(drawn)


@pytest.mark.parametrize("beginnings", [MESSAGES, CHARACTERS])
def test_buckets_follow_each_other_without_a_gap(beginnings: tuple[int, ...]) -> None:
    buckets = lengths({}, beginnings).buckets
    assert buckets[0].least == 0
    assert [each.least for each in buckets[1:]] == [each.most + 1 for each in buckets[:-1] if each.most is not None]
    assert buckets[-1].most is None
