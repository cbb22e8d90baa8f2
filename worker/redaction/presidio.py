"""An engine that asks an installed Presidio: `pip install presidio-analyzer`, and the spaCy model that it uses.

https://microsoft.github.io/presidio/analyzer/
"""

from collections.abc import Collection, Iterator
from functools import cached_property
from typing import Any

from worker.redaction.engine import DefaultEngine
from worker.redaction.kinds import Hints, Span

_ENTITIES = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "PERSON": "name",
}
_OWN = {"url_secret", "national_id", "name"}
"""Kinds for which the default engine is asked as well: Presidio does not know the conversation's people."""


class PresidioEngine:
    """Finds with Presidio's analyzer, and what it does not know with the default engine."""

    def __init__(self, language: str = "en", minimum_score: float = 0.4) -> None:
        """Raises ImportError, which says what to install."""
        try:
            import presidio_analyzer
        except ImportError as error:
            raise ImportError("The engine presidio needs: pip install presidio-analyzer") from error
        self._presidio: Any = presidio_analyzer
        self._language = language
        self._minimum_score = minimum_score
        self._default = DefaultEngine()

    @cached_property
    def _analyzer(self) -> Any:
        return self._presidio.AnalyzerEngine()

    def find(self, text: str, kinds: Collection[str], hints: Hints) -> Iterator[Span]:
        yield from self._default.find(text, set(kinds) & _OWN, hints)
        wanted = [entity for entity, kind in _ENTITIES.items() if kind in kinds]
        place = 0
        for part in text.split("\x00"):
            if part.strip() and wanted:
                for found in self._analyze(part, wanted, hints):
                    value = part[found.start : found.end].casefold()
                    yield Span(place + found.start, place + found.end, _ENTITIES[found.entity_type], value)
            place += len(part) + 1

    def _analyze(self, text: str, wanted: list[str], hints: Hints) -> Any:
        # Presidio's own recognizer of phone numbers knows eight regions only.
        recognizers = None
        if hints.regions and "PHONE_NUMBER" in wanted:
            phone = self._presidio.predefined_recognizers.PhoneRecognizer(supported_regions=list(hints.regions))
            recognizers = [phone]
        return self._analyzer.analyze(
            text=text,
            language=self._language,
            entities=wanted,
            score_threshold=self._minimum_score,
            ad_hoc_recognizers=recognizers,
        )
