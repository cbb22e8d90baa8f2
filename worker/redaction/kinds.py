"""The kinds of personal data, and where one was found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

KINDS = ("email", "phone", "card", "iban", "ip", "url_secret", "name", "national_id")
"""In order of documentation. The placeholder of a kind is its name in capitals with a number: `[EMAIL_1]`."""

_PRECEDENCE = ("url_secret", "email", "iban", "card", "national_id", "phone", "ip", "name")
"""Where two kinds overlap, the earlier one is right: the digits of an IBAN may look like a phone number."""
RANK = {kind: rank for rank, kind in enumerate(_PRECEDENCE)}


class Span(NamedTuple):
    """A place where personal data was found: characters from `start` up to, and without, `end`."""

    start: int
    end: int
    kind: str
    value: str
    """The normal form: two spellings of the same value have the same one."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What is known about a conversation before its text is read."""

    regions: Sequence[str] = ()
    """ISO 3166 codes: phone numbers without a country code, and national ids, are looked for in these."""
    people: Sequence[tuple[str, ...]] = ()
    """The names of the contact and of the agents: for each person the first and last name, as far as known."""


def check_kinds(values: Sequence[str]) -> list[str]:
    """Return the kinds without repetitions, in the order of `KINDS`.

    Raises ValueError, which lists the allowed kinds.
    """
    for value in values:
        if value not in KINDS:
            raise ValueError(f"should name kinds of personal data: {', '.join(KINDS)}; {value[:40]!r} is none")
    return [kind for kind in KINDS if kind in values]


def check_regions(values: Sequence[str]) -> list[str]:
    """Return the regions in capitals, without repetitions.

    Raises ValueError for a region that phonenumbers does not know; the message has examples.
    """
    from phonenumbers import SUPPORTED_REGIONS

    regions = [value.upper() for value in values]
    for region in regions:
        if region not in SUPPORTED_REGIONS:
            raise ValueError(f"should name regions by two letters, such as DE or US; {region[:40]!r} is none")
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
