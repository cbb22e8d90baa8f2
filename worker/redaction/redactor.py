"""Replaces what an engine finds with placeholders that are stable within a snapshot."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from worker.redaction.kinds import KINDS, Hints, Span, without_overlaps

if TYPE_CHECKING:
    from worker.redaction.engine import Engine

_SEPARATOR = "\x00"
_PLACEHOLDER = re.compile(rf"\[({'|'.join(kind.upper() for kind in KINDS)})_([0-9]{{1,6}})\]")


class Part(NamedTuple):
    """A text of a snapshot."""

    text: str
    whole: str | None = None
    """The kind of which the whole text is a value, such as `phone` for the customer's phone number."""


class Replacement(NamedTuple):
    """What is replaced in a part, and by what."""

    start: int
    end: int
    kind: str
    placeholder: str


@dataclass(frozen=True, slots=True)
class Redacted:
    """The texts of one snapshot after redaction, and what was replaced in each."""

    texts: list[str]
    replacements: list[list[Replacement]]
    """For each part, in order of appearance."""

    @property
    def counts(self) -> dict[str, int]:
        """How many places were replaced, by kind, in the order of `KINDS`; kinds that were not found are absent."""
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
        different = list(dict.fromkeys(parts))  # senders, for example, are the same in most messages
        text = _SEPARATOR.join([part.text for part in different])
        hints = Hints(self._all_regions(phone), people)
        spans = list(self._engine.find(text, self._kinds, hints)) + self._whole(different, hints)
        if not spans:
            return Redacted([part.text for part in parts], [[] for _ in parts])
        redacted = _replace(different, text, without_overlaps(spans))
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

    def _whole(self, parts: Sequence[Part], hints: Hints) -> list[Span]:
        """Return the parts that are values of a kind as a whole."""
        spans = []
        place = 0
        for text, whole in parts:
            if whole and whole in self._kinds and (stripped := text.strip()) and not _PLACEHOLDER.fullmatch(stripped):
                start = place + text.index(stripped)
                spans.append(Span(start, start + len(stripped), whole, _value(stripped, whole, hints)))
            place += len(text) + 1
        return spans


def _value(text: str, kind: str, hints: Hints) -> str:
    """Return the normal form of a customer's name, phone number or e-mail address."""
    if kind == "name":
        return "0"
    if kind == "phone":
        from worker.redaction.phone import normal_form

        return normal_form(text, hints.regions)
    return text.casefold()


def _replace(parts: Sequence[Part], text: str, spans: Sequence[Span]) -> Redacted:
    placeholders = _Placeholders(text)
    texts: list[str] = []
    replacements: list[list[Replacement]] = []
    place, number = 0, 0
    for part in parts:
        end = place + len(part.text)
        own: list[Replacement] = []
        if number == len(spans) or spans[number].start >= end:
            texts.append(part.text)
            replacements.append(own)
            place = end + 1
            continue
        pieces: list[str] = []
        after = place
        while number < len(spans) and spans[number].start < end:
            span = spans[number]
            placeholder = placeholders.of(span)
            own.append(Replacement(span.start - place, span.end - place, span.kind, placeholder))
            pieces += (text[after : span.start], placeholder)
            after = span.end
            number += 1
        texts.append("".join([*pieces, text[after:end]]))
        replacements.append(own)
        place = end + 1
    return Redacted(texts, replacements)


class _Placeholders:
    """Numbers the values of each kind in order of appearance, after the numbers that the text has already."""

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
