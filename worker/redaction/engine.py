"""The interface of redaction engines, and the default engine, which needs neither a model nor the network."""

from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from worker.redaction.card import find_cards
from worker.redaction.email import find_emails
from worker.redaction.iban import find_ibans
from worker.redaction.ip import find_ips
from worker.redaction.kinds import Hints, Span
from worker.redaction.name import find_names
from worker.redaction.national_id import find_national_ids
from worker.redaction.numbers import DigitRun, runs
from worker.redaction.text import normalize
from worker.redaction.url_secret import find_url_secrets


class Engine(Protocol):
    """Finds personal data in a text. Implementations have no state, or are safe for threads.

    `DefaultEngine` needs no model; `worker.redaction.presidio.PresidioEngine` asks an installed Presidio.
    """

    def find(self, text: str, kinds: Collection[str], hints: Hints) -> Iterator[Span]:
        """Find the personal data of some kinds.

        Args:
            text: The texts of one snapshot, separated by NUL characters, which no span contains.
            kinds: The kinds to look for, some of `worker.redaction.kinds.KINDS`.
            hints: What is known about the conversation: regions for phone numbers, names of people.

        Returns:
            The places, in any order. They may overlap; `without_overlaps` decides which of them count.

        Example:
            [span.kind for span in DefaultEngine().find("write to anna@example.com", {"email"}, Hints())]  # ["email"]
        """


class DefaultEngine:
    """Finds personal data with patterns, `phonenumbers` and `python-stdnum`, in time that is linear in the text."""

    def find(self, text: str, kinds: Collection[str], hints: Hints) -> Iterator[Span]:
        """Find the personal data of some kinds. See `Engine.find`."""
        normal = normalize(text)
        for start, end, kind, value in self._find_patterns(normal.text, kinds, hints):
            yield Span(*normal.original(start, end), kind, value)
        if "name" in kinds and hints.people:
            yield from find_names(text, hints.people)

    def _find_patterns(self, text: str, kinds: Collection[str], hints: Hints) -> Iterator[Span]:
        if "email" in kinds:
            yield from find_emails(text)
        if "url_secret" in kinds:
            yield from find_url_secrets(text)
        if "ip" in kinds:
            yield from find_ips(text)
        numeric = [(kind in _WITH_LETTERS, find) for kind, find in _NUMERIC.items() if kind in kinds]
        for run in runs(text) if numeric else ():
            for with_letters, find in numeric:
                if with_letters or not run.is_short:
                    yield from find(run, hints)


def _phones(run: DigitRun, hints: Hints) -> Iterator[Span]:
    # phonenumbers takes 3 MB and 20 ms, which processes without redaction should not spend.
    from worker.redaction.phone import find_phones

    return find_phones(run, hints)


_NUMERIC: dict[str, Callable[[DigitRun, Hints], Iterator[Span]]] = {
    "iban": lambda run, _: find_ibans(run),
    "card": lambda run, _: find_cards(run),
    "national_id": find_national_ids,
    "phone": _phones,
}
_WITH_LETTERS = {"iban", "national_id"}
"""Kinds whose numbers may begin with letters."""
