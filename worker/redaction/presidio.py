"""A redaction engine on an installed Presidio: `pip install presidio-analyzer`, and the spaCy model that it uses.

https://microsoft.github.io/presidio/analyzer/
"""

from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from worker.redaction.engine import DefaultEngine
from worker.redaction.kinds import Hints, Span
from worker.redaction.phone import normal_form

_ENTITIES = {
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "PERSON": "name",
}
_OWN = {"url_secret", "national_id", "name", "email"}
"""Kinds that the default engine finds: Presidio does not know the people in the conversation, and fetches a list of
top-level domains from the Internet when it looks for addresses."""


class PresidioEngine:
    """Finds personal data with Presidio's analyzer, and with the default engine what Presidio does not know.

    It is not part of a policy.

    Example:
        Redactor(["name", "email"], engine=PresidioEngine(model="en_core_web_sm"))
    """

    def __init__(self, language: str = "en", minimum_score: float = 0.4, model: str = "en_core_web_lg") -> None:
        """Check that Presidio and its model are installed. The model is loaded when a text is first analysed.

        Args:
            language: The language of the texts and of the model, such as `en`.
            minimum_score: From 0 to 1. Findings with a lower score are ignored.
            model: A package or folder of spaCy.

        Raises:
            ImportError: Presidio or its model is not installed. The message says what to install.
        """
        try:
            import presidio_analyzer
            import spacy
        except ImportError as error:
            raise ImportError("The engine presidio needs: pip install presidio-analyzer") from error
        # Otherwise Presidio would download it.
        if not (spacy.util.is_package(model) or Path(model).exists()):
            raise ImportError(f"The engine presidio needs a model: python -m spacy download {model}")
        self._presidio: Any = presidio_analyzer
        self._model = model
        self._language = language
        self._minimum_score = minimum_score
        self._default = DefaultEngine()

    @cached_property
    def _analyzer(self) -> Any:
        # By default, Presidio loads English only.
        models = [{"lang_code": self._language, "model_name": self._model}]
        provider = self._presidio.nlp_engine.NlpEngineProvider(
            nlp_configuration={"nlp_engine_name": "spacy", "models": models}
        )
        return self._presidio.AnalyzerEngine(nlp_engine=provider.create_engine(), supported_languages=[self._language])

    def find(self, text: str, kinds: Collection[str], hints: Hints) -> Iterator[Span]:
        """Find the personal data of some kinds. See `Engine.find`.

        Secrets in URLs, national ids, e-mail addresses and the names of the conversation's people are found by the
        default engine, the other kinds and other names by Presidio.
        """
        yield from self._default.find(text, set(kinds) & _OWN, hints)
        wanted = [entity for entity, kind in _ENTITIES.items() if kind in kinds]
        place = 0
        for part in text.split("\x00"):
            if part.strip() and wanted:
                for found in self._analyze(part, wanted, hints):
                    kind = _ENTITIES[found.entity_type]
                    value = _normal(kind, part[found.start : found.end], hints)
                    yield Span(place + found.start, place + found.end, kind, value)
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


def _normal(kind: str, text: str, hints: Hints) -> str:
    if kind == "phone":
        return normal_form(text, hints.regions)
    return "".join(filter(str.isalnum, text)).casefold() if kind in {"card", "iban"} else text.casefold()
