"""The split by person: shares, stability, and what stratification moves."""

import random

import pytest
from bson import ObjectId

from worker.exports.split import Splitter, parse_shares

ORGANIZATION = ObjectId("6a1b2c3d4e5f60718293a4b5")


def people(count: int, first: int = 0) -> list[ObjectId]:
    return [ObjectId(f"{number:024x}") for number in range(first, first + count)]


def splitter(shares: str = "90/5/5", key: str = "a key", **moved: str) -> Splitter:
    return Splitter(ORGANIZATION, key, parse_shares(shares), {})


def test_shares_are_within_a_point_in_100_000_contacts() -> None:
    sides = [splitter().side(each) for each in people(100_000)]
    for name, share in (("train", 0.9), ("validation", 0.05), ("test", 0.05)):
        assert abs(sides.count(name) / len(sides) - share) < 0.01


def test_person_stays_on_its_side_whatever_is_added() -> None:
    before = {each: splitter().side(each) for each in people(1000)}
    after = {each: splitter().side(each) for each in people(2000)}
    assert before.items() <= after.items()


def test_another_key_or_organization_gives_other_sides() -> None:
    mine = [splitter("50/25/25").side(each) for each in people(100)]
    assert mine != [splitter("50/25/25", "another").side(each) for each in people(100)]
    other = Splitter(ObjectId(), "a key", parse_shares("50/25/25"), {})
    assert mine != [other.side(each) for each in people(100)]
    assert splitter().fingerprint != other.fingerprint


def test_smaller_training_share_moves_people_out_of_training_only() -> None:
    for each in people(1000):
        if splitter("80/10/10").side(each) == "train":
            assert splitter("90/5/5").side(each) == "train"


@pytest.mark.parametrize("seed", range(5))
def test_stratified_sides_have_equal_shares_of_each_quality(seed: int) -> None:
    chance = random.Random(seed)
    counts = {
        each: {chance.choices(["good", "bad", "none"], [70, 10, 20])[0]: chance.randint(1, 4)} for each in people(3000)
    }
    plain = splitter("80/10/10")
    moved = plain.stratify(counts.items())
    assert len(moved) < 150
    stratified = Splitter(ORGANIZATION, "a key", parse_shares("80/10/10"), moved)
    by_side: dict[str, dict[str, int]] = {}
    for person, of in counts.items():
        mine = by_side.setdefault(stratified.side(person), {})
        for quality, count in of.items():
            mine[quality] = mine.get(quality, 0) + count
    overall = sum(sum(each.values()) for each in by_side.values())
    for quality in ("good", "bad", "none"):
        share = sum(each[quality] for each in by_side.values()) / overall
        for each in by_side.values():
            assert abs(each[quality] / sum(each.values()) - share) < 0.02


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
