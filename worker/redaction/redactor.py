"""Replaces what an engine finds with placeholders that are stable within a snapshot."""

import re
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from worker.redaction.kinds import KINDS, Hints, Span, without_overlaps

if TYPE_CHECKING:
    from worker.redaction.engine import Engine

_SEPARATOR = "\x00"
_PLAIN = {
    "phone": re.compile(r"\+[1-9][0-9]{6,11}"),
    "email": re.compile(r"[a-z0-9._+-]{1,64}@[a-z0-9.-]{1,255}"),
}
"""Kinds of whole values in which no kind with precedence can be found."""
_NUMBER = re.compile(r"[0-9](?:[ ().\-_/]{0,3}+[0-9]){4}")
_PLACEHOLDER = re.compile(rf"\[({'|'.join(kind.upper() for kind in KINDS)})_([0-9]{{1,6}})\]")


class Part(NamedTuple):
    """A text of a snapshot."""

    text: str
    whole: str | None = None
    """The kind of the text as a whole, such as `phone` for the customer's phone number; None for free text."""


class Replacement(NamedTuple):
    """A replacement in a part: a span of its text, and the placeholder."""

    start: int
    end: int
    kind: str
    placeholder: str


@dataclass(frozen=True, slots=True)
class Redacted:
    """The texts of one snapshot after redaction, and what was replaced in each."""

    texts: list[str]
    replacements: list[list[Replacement]]
    """The replacements in each part, in order of appearance."""

    @property
    def counts(self) -> dict[str, int]:
        """The number of replacements by kind, in the order of `KINDS`. Kinds that were not found are absent."""
        found = [each.kind for part in self.replacements for each in part]
        return {kind: found.count(kind) for kind in KINDS if kind in found}

    @property
    def is_changed(self) -> bool:
        """Whether anything was replaced."""
        return any(self.replacements)


class Redactor:
    """Redacts the texts of snapshots. It has no state, and threads may share it.

    Args:
        kinds: The kinds of personal data to replace, some of `worker.redaction.kinds.KINDS`.
        regions: ISO 3166 codes, such as `DE`. Phone numbers without a country code, and national ids, are looked for in
            these. Without regions, only phone numbers with a country code are found.
        engine: Finds the personal data. None: `DefaultEngine`.

    Example:
        redactor = Redactor(["email"])
        redactor([Part("mail anna@example.com"), Part("again anna@example.com")]).texts
        # ["mail [EMAIL_1]", "again [EMAIL_1]"]
    """

    def __init__(self, kinds: Collection[str], regions: Sequence[str] = (), engine: "Engine | None" = None) -> None:
        self._kinds = frozenset(kinds)
        self._regions = tuple(regions)
        if engine is None:
            # Its patterns take 60 ms and 9 MB, which processes without redaction should not spend.
            from worker.redaction.engine import DefaultEngine

            engine = DefaultEngine()
        self._engine = engine

    def __call__(
        self, parts: Sequence[Part], people: Sequence[tuple[str, ...]] = (), phone: str | None = None
    ) -> Redacted:
        """Redact the texts of one snapshot. The same value gets the same placeholder in all of them.

        Args:
            parts: The texts, in the order in which placeholders are numbered.
            people: The names of the contact, then of the agents, each as first and last name as far as known.
            phone: The contact's number, whose region counts as one of the organization's.

        Returns:
            The texts, in the same order, and what was replaced in each.
        """
        different = list(dict.fromkeys(parts))  # notes, for example, may repeat a message
        texts = [part.text for part in different]
        starts = list(accumulate(map(len, texts), lambda start, size: start + size + 1, initial=0))
        wholes, searched = self._wholes(different, starts)
        regions = self._all_regions(phone) if _may_have_numbers(searched) else self._regions
        spans = list(self._engine.find(searched, self._kinds, Hints(regions, people)))
        spans = [span for span in spans if not any(_is_within(span, whole) for whole in wholes)]
        spans += _spans_of(wholes, regions, any(span.kind == "phone" for span in spans))
        if not spans:
            return Redacted([part.text for part in parts], [[] for _ in parts])
        redacted = _replace(texts, starts, without_overlaps(spans), _Placeholders(searched))
        if len(different) == len(parts):
            return redacted
        places = {part: place for place, part in enumerate(different)}
        order = [places[part] for part in parts]
        return Redacted([redacted.texts[place] for place in order], [redacted.replacements[place] for place in order])

    def _all_regions(self, phone: str | None) -> tuple[str, ...]:
        if phone is None or not self._kinds & {"phone", "national_id"}:
            return self._regions
        from worker.redaction.phone import region_of

        region = region_of(phone)
        return (*self._regions, region) if region and region not in self._regions else self._regions

    def _wholes(self, parts: Sequence[Part], starts: Sequence[int]) -> tuple[list[Span], str]:
        """Return the parts that are as a whole the value of a kind, and the text in which to look for other values.

        NUL characters take the place of values that cannot be anything else, so that nobody looks at them again.
        """
        wholes: list[Span] = []
        texts = [part.text for part in parts]
        for number, (text, whole) in enumerate(parts):
            if whole and whole in self._kinds and (stripped := text.strip()) and not _PLACEHOLDER.fullmatch(stripped):
                start = starts[number] + text.index(stripped)
                wholes.append(Span(start, start + len(stripped), whole, stripped))
                if whole in _PLAIN and _PLAIN[whole].fullmatch(stripped):
                    texts[number] = _SEPARATOR * len(text)
        return wholes, _SEPARATOR.join(texts)


def _is_within(span: Span, whole: Span) -> bool:
    """Return whether a span is a part of a whole value, such as a phone number behind a customer's name."""
    return whole.start <= span.start and span.end <= whole.end and (span.start, span.end) != (whole.start, whole.end)


def _may_have_numbers(text: str) -> bool:
    """Return whether a text may have a number that only a region explains. Finding the contact's region is slow."""
    return not text.isascii() or _NUMBER.search(text) is not None


def _spans_of(wholes: Sequence[Span], regions: Sequence[str], has_phones: bool) -> list[Span]:
    """Return the whole parts with their normal forms.

    A phone number that is the only one keeps its text, because its normal form is slow to find and not needed.
    """
    is_only = not has_phones and sum(whole.kind == "phone" for whole in wholes) == 1
    return [
        whole if is_only and whole.kind == "phone" else whole._replace(value=_value(whole.value, whole.kind, regions))
        for whole in wholes
    ]


def _value(text: str, kind: str, regions: Sequence[str]) -> str:
    """Return the normal form of a customer's name, phone number or e-mail address."""
    if kind == "name":
        return "0"
    if kind == "phone":
        from worker.redaction.phone import normal_form

        return normal_form(text, regions)
    return text.casefold()


def _replace(texts: list[str], starts: Sequence[int], spans: Sequence[Span], placeholders: "_Placeholders") -> Redacted:
    """Replace the spans in the texts, of which each but the last is followed by one character."""
    replacements: list[list[Replacement]] = [[] for _ in texts]
    number = 0
    while number < len(spans):
        which = bisect_right(starts, spans[number].start) - 1
        place, end = starts[which], starts[which + 1]
        own, whole = replacements[which], texts[which]
        pieces: list[str] = []
        after = 0
        while number < len(spans) and spans[number].start < end:
            span = spans[number]
            placeholder = placeholders.of(span)
            replaced = Replacement(span.start - place, span.end - place, span.kind, placeholder)
            own.append(replaced)
            pieces += (whole[after : replaced.start], placeholder)
            after = replaced.end
            number += 1
        texts[which] = "".join([*pieces, whole[after:]])
    return Redacted(texts, replacements)


class _Placeholders:
    """Numbers the values of each kind in order of appearance, continuing the numbers of placeholders in the text."""

    def __init__(self, text: str) -> None:
        self._last: dict[str, int] = {}
        for kind, number in _PLACEHOLDER.findall(text):
            self._last[kind] = max(self._last.get(kind, 0), int(number))
        self._known: dict[tuple[str, str], str] = {}

    def of(self, span: Span) -> str:
        key = span.kind, span.value
        if key not in self._known:
            kind = span.kind.upper()
            self._last[kind] = self._last.get(kind, 0) + 1
            self._known[key] = f"[{kind}_{self._last[kind]}]"
        return self._known[key]


def describe_counts(counts: Mapping[str, int]) -> str:
    """Return counts by kind as text, such as `2 email, 1 phone`, or `nothing`."""
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing"
