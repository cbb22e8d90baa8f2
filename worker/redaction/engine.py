"""The interface of engines, and the default one: patterns and check digits, without a model or the network."""

from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from worker.redaction.card import find_cards
from worker.redaction.email import find_emails
from worker.redaction.iban import find_ibans
from worker.redaction.ip import find_ips
from worker.redaction.kinds import Hints, Span
from worker.redaction.name import find_names
from worker.redaction.national_id import find_national_ids
from worker.redaction.numbers import Run, runs
from worker.redaction.text import normalize
from worker.redaction.url_secret import find_url_secrets


class Engine(Protocol):
    """Finds personal data in a text."""

    def find(self, text: str, kinds: Collection[str], hints: Hints) -> Iterator[Span]:
        """Yield what was found of these kinds, in any order; places may overlap.

        `text`: several texts, separated by NUL characters, which no span contains.
        """


class DefaultEngine:
    """Finds with patterns, `phonenumbers` and `python-stdnum`, in time that is linear in the text."""

    def find(self, text: str, kinds: Collection[str], hints: Hints) -> Iterator[Span]:
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
        numeric = [finder for kind, finder in _NUMERIC.items() if kind in kinds]
        if numeric:
            for run in runs(text):
                for find in numeric:
                    yield from find(run, hints)


def _phones(run: Run, hints: Hints) -> Iterator[Span]:
    # phonenumbers takes 3 MB and 20 ms, which processes without redaction should not spend.
    from worker.redaction.phone import find_phones

    return find_phones(run, hints)


_NUMERIC: dict[str, Callable[[Run, Hints], Iterator[Span]]] = {
    "iban": lambda run, _: find_ibans(run),
    "card": lambda run, _: find_cards(run),
    "national_id": find_national_ids,
    "phone": _phones,
}
