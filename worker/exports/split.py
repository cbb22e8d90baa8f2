"""The split into training, validation and test data. All snapshots of a person are in the same split."""

import hmac
import re
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby

from bson import ObjectId

from worker.formats.dataset import SPLITS

TRAIN = SPLITS[0]
_STRATUM_BITS = 11
MAX_STRATA = 2**_STRATUM_BITS
_PLACES = 2**53
_MAX_QUALITIES = 100
_NUMBER = re.compile(r"\d{1,3}(\.\d{1,4})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of the splits, in the order of `SPLITS`. They add up to 1."""

    shares: tuple[float, float, float]

    def side(self, point: float) -> str:
        """Return the split for a point, a number from 0 to below 1."""
        first, second, third = self.shares
        if point < first:
            return SPLITS[0]
        return SPLITS[1] if point < first + second or not third else SPLITS[2]


def parse_shares(text: str) -> Shares:
    """Parse the shares of training, validation and test data.

    Args:
        text: Three percentages that add up to 100, such as `90/5/5`.

    Raises:
        ValueError: The text has another form, another sum, or no training data. The message says what is allowed.
    """
    parts = text.split("/")
    if len(parts) != len(SPLITS) or not all(_NUMBER.fullmatch(part) for part in parts):
        raise ValueError(f"should be three percentages for {', '.join(SPLITS)}, such as 90/5/5")
    numbers = [Decimal(part) for part in parts]
    if (total := sum(numbers)) != 100:
        raise ValueError(f"should add up to 100; {text} adds up to {total}")
    if not numbers[0]:
        raise ValueError("should have a first percentage above 0; otherwise there is nothing to train on")
    train, validation, test = (float(number / 100) for number in numbers)
    return Shares((train, validation, 1 - train - validation if test else 0.0))


class Splitter:
    """Assigns each person to a split, only by a hash of the organization, the contact and the key."""

    def __init__(self, organization: ObjectId, key: str, shares: Shares | None, moved: Mapping[int, str]) -> None:
        """`moved`: the splits of people whom stratification has moved, by their place."""
        self._secret = key.encode() + organization.binary
        self._shares = shares
        self._moved = moved

    @property
    def fingerprint(self) -> str:
        """A hash that identifies the key without revealing it."""
        return hmac.digest(self._secret, b"fingerprint", "sha256").hex()[:16]

    def place(self, person: ObjectId) -> int:
        """Return the person's position in the order that the split divides: a hash as an integer below 2**53."""
        digest = hmac.digest(self._secret, person.binary, "sha256")
        return int.from_bytes(digest[:8]) >> _STRATUM_BITS

    def side(self, person: ObjectId) -> str:
        """Return the split of a person: `train`, `validation` or `test`. It depends on nothing else."""
        if self._shares is None:
            return TRAIN
        place = self.place(person)
        return self._moved.get(place) or self._shares.side(place / _PLACES)

    def mark(self, person: ObjectId, stratum: int) -> int:
        """Return a snapshot's person and quality in 8 bytes, for `stratify`. `stratum`: below MAX_STRATA."""
        return self.place(person) << _STRATUM_BITS | stratum


def stratify(shares: Shares, marks: "array[int]") -> dict[int, str]:
    """Return the people to move, by place, so that each quality has the same shares of the splits.

    `marks`: one for each snapshot, in any order (`Splitter.mark`). People of the same main quality form a stratum.
    Within a stratum, people are sorted by place and divided where the shares of its snapshots are reached. That is
    close to where the hash alone would divide them, so few people move. A million snapshots take less than 100 MB.
    """
    strata: dict[int, tuple[array[int], array[int]]] = {}
    for place, of_person in groupby(sorted(marks), key=lambda mark: mark >> _STRATUM_BITS):
        counts = Counter(mark & (MAX_STRATA - 1) for mark in of_person)
        places, weights = strata.setdefault(counts.most_common(1)[0][0], (array("Q"), array("Q")))
        places.append(place)
        weights.append(counts.total())
    moved: dict[int, str] = {}
    for places, weights in strata.values():
        total, before = sum(weights), 0
        for place, weight in zip(places, weights, strict=True):
            # The middle of a person's snapshots decides, so that rounding favours no split.
            side = shares.side((before + weight / 2) / total)
            before += weight
            if side != shares.side(place / _PLACES):
                moved[place] = side
    return moved


def quality_of(value: object) -> str:
    """Return the name under which a snapshot's quality is counted: the quality, or `none`."""
    # MongoDB refuses a NUL in the name of a field, and the job's record has the counts.
    return (value.replace("\0", "") if isinstance(value, str) else "") or "none"


def most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the 100 most frequent qualities, in alphabetical order; the others together are `other`.

    A quality is free text, so every snapshot may have a different one, and the event of an export contains the counts.
    """
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    kept = dict(ordered[:_MAX_QUALITIES])
    if rest := sum(count for _, count in ordered[_MAX_QUALITIES:]):
        kept["other"] = kept.get("other", 0) + rest
    return dict(sorted(kept.items()))


def merge(into: dict[str, int], counts: Mapping[str, int]) -> None:
    """Add counts to `into`, by name. Its names stay in alphabetical order."""
    total = Counter(into) + Counter(counts)
    into.clear()
    into.update(sorted(total.items()))
