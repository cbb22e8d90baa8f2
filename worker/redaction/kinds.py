"""The kinds of personal data, and the spans of text in which they are found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

KINDS = ("email", "phone", "card", "iban", "ip", "url_secret", "name", "national_id")
"""All kinds, in the order of docs/privacy.md. A placeholder is the name in capitals with a number: `[EMAIL_1]`."""

_PRECEDENCE = ("url_secret", "email", "iban", "card", "national_id", "phone", "ip", "name")
"""Where spans of two kinds overlap, the earlier kind wins: the digits of an IBAN may look like a phone number."""
RANK = {kind: rank for rank, kind in enumerate(_PRECEDENCE)}


class Span(NamedTuple):
    """A span of text that is personal data: the characters from `start` to `end`, exclusive."""

    start: int
    end: int
    kind: str
    value: str
    """The normal form of the value, which is the same for all its spellings."""


@dataclass(frozen=True, slots=True)
class Hints:
    """Known facts about a conversation, which help to find personal data in its text."""

    regions: Sequence[str] = ()
    """ISO 3166 codes of the regions in which to look for national ids and phone numbers without a country code."""
    people: Sequence[tuple[str, ...]] = ()
    """The names of the contact and of the agents. Each is a tuple of the known parts, such as first and last name."""


def check_kinds(values: Sequence[str]) -> list[str]:
    """Return the kinds without repetitions, in the order of `KINDS`.

    Raises ValueError, which lists the allowed kinds.
    """
    for value in values:
        if value not in KINDS:
            raise ValueError(f"should name kinds of personal data: {', '.join(KINDS)}; {value[:40]!r} is not one")
    return [kind for kind in KINDS if kind in values]


def check_regions(values: Sequence[str]) -> list[str]:
    """Return the regions in capitals, without repetitions.

    Raises ValueError for a region that phonenumbers does not know; the message has examples.
    """
    from phonenumbers import SUPPORTED_REGIONS

    regions = [value.upper() for value in values]
    for region in regions:
        if region not in SUPPORTED_REGIONS:
            raise ValueError(f"should name regions by two letters, such as DE or US; {region[:40]!r} is not one")
    return list(dict.fromkeys(regions))


def without_overlaps(spans: Sequence[Span]) -> list[Span]:
    """Choose among spans that overlap: an IBAN, for example, takes precedence over a phone number within it.

    Returns:
        Spans that do not overlap, in order of appearance.
    """
    kept: list[Span] = []
    for span in sorted(spans, key=lambda each: (each.start, -each.end)):
        while kept and kept[-1].end > span.start and RANK[span.kind] < RANK[kept[-1].kind]:
            kept.pop()
        if not kept or kept[-1].end <= span.start:
            kept.append(span)
    return kept
