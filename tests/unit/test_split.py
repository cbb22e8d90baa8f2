"""The split by person: shares, stability, and what stratification moves."""

import random
from array import array
from collections import Counter, defaultdict

import pytest
from bson import ObjectId

from worker.exports.split import MAX_STRATA, Splitter, most_frequent, parse_shares, quality_of, stratify

ORGANIZATION = ObjectId("6a1b2c3d4e5f60718293a4b5")


def people(count: int, first: int = 0) -> list[ObjectId]:
    return [ObjectId(f"{number:024x}") for number in range(first, first + count)]


def splitter(shares: str = "90/5/5", key: str = "a key") -> Splitter:
    return Splitter(ORGANIZATION, key, parse_shares(shares), {})


def test_qualities_beyond_the_most_frequent_ones_are_counted_together() -> None:
    kept = most_frequent({**{f"label {number}": 1 for number in range(150)}, "good": 7, "other": 2})
    assert (len(kept), kept["good"], kept["other"], sum(kept.values())) == (100, 7, 54, 159)
    assert most_frequent({"good": 2, "bad": 3}) == {"bad": 3, "good": 2}


def test_quality_is_counted_under_a_name_that_mongodb_accepts() -> None:
    found = [quality_of(value) for value in ("good", "a\0b", "\0", "", None, 5)]
    assert found == ["good", "ab", "none", "none", "none", "none"]


def test_shares_are_within_a_point_in_100_000_contacts() -> None:
    side = splitter().side
    sides = [side(each) for each in people(100_000)]
    for name, share in (("train", 0.9), ("validation", 0.05), ("test", 0.05)):
        assert abs(sides.count(name) / len(sides) - share) < 0.01


def test_person_stays_on_its_side_whatever_is_added() -> None:
    first, second = splitter(), splitter()
    before = {each: first.side(each) for each in people(10_000)}
    after = {each: second.side(each) for each in people(20_000)}
    assert before.items() <= after.items()


def test_another_key_or_organization_gives_other_sides() -> None:
    mine = [splitter("50/25/25").side(each) for each in people(100)]
    assert mine != [splitter("50/25/25", "another").side(each) for each in people(100)]
    other = Splitter(ObjectId(), "a key", parse_shares("50/25/25"), {})
    assert mine != [other.side(each) for each in people(100)]
    assert splitter().fingerprint != other.fingerprint


def test_smaller_training_share_moves_people_out_of_training_only() -> None:
    smaller, larger = splitter("80/10/10"), splitter("90/5/5")
    chosen = [each for each in people(1000) if smaller.side(each) == "train"]
    assert chosen
    assert {larger.side(each) for each in chosen} == {"train"}


@pytest.mark.parametrize("seed", range(5))
def test_stratified_sides_have_equal_shares_of_each_quality(seed: int) -> None:
    chance = random.Random(seed)
    counts = {
        each: {chance.choices(["good", "bad", "none"], [70, 10, 20])[0]: chance.randint(1, 4)} for each in people(3000)
    }
    moved, by_side = stratified("80/10/10", counts)
    assert len(moved) < 150
    overall = sum(sum(each.values()) for each in by_side.values())
    for quality in ("good", "bad", "none"):
        share = sum(each[quality] for each in by_side.values()) / overall
        for each in by_side.values():
            assert abs(each[quality] / sum(each.values()) - share) < 0.02


def stratified(shares: str, counts: dict[ObjectId, dict[str, int]]) -> tuple[dict[int, str], dict[str, Counter[str]]]:
    """Who changes sides, and the snapshots of each side by quality."""
    marks, qualities, mark = array("Q"), ("good", "bad", "none"), splitter(shares).mark
    for person, of in counts.items():
        for quality, count in of.items():
            marks.extend([mark(person, qualities.index(quality))] * count)
    moved = stratify(parse_shares(shares), marks)
    sides = Splitter(ORGANIZATION, "a key", parse_shares(shares), moved)
    by_side: dict[str, Counter[str]] = defaultdict(Counter)
    for person, of in counts.items():
        by_side[sides.side(person)].update(of)
    return moved, by_side


def test_stratified_shares_of_20_000_contacts_are_within_a_point_for_each_quality() -> None:
    chance = random.Random(1)
    counts = {
        each: {chance.choices(["good", "bad", "none"], [70, 2, 28])[0]: chance.randint(1, 3)} for each in people(20_000)
    }
    moved, by_side = stratified("90/5/5", counts)
    assert len(moved) < 400
    for quality in ("good", "bad", "none"):
        total = sum(each[quality] for each in by_side.values())
        for side, share in (("train", 0.9), ("validation", 0.05), ("test", 0.05)):
            assert abs(by_side[side][quality] / total - share) < 0.01


def test_qualities_that_are_too_many_form_one_stratum() -> None:
    marks = array("Q", (splitter().mark(each, MAX_STRATA - 1) for each in people(1000)))
    assert set(stratify(parse_shares("90/5/5"), marks)) < {splitter().place(each) for each in people(1000)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("90/5", "three percentages"),
        ("90/5/6", "add up to 100; 90/5/6 adds up to 101"),
        ("0/50/50", "nothing to train on"),
        ("-1/51/50", "three percentages"),
        ("nan/0/0", "three percentages"),
        ("33.3/33.3/33.4/0", "three percentages"),
    ],
)
def test_bad_shares_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_shares(text)


def test_side_without_a_share_is_empty() -> None:
    assert {splitter("70/30/0").side(each) for each in people(1000)} == {"train", "validation"}
