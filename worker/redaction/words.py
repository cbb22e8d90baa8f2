"""Reads the lists of words in many languages, which are text files next to this module."""

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

_LATIN = r"[0-9a-z_\u00df-\u00f6\u00f8-\u024f\u1e00-\u1eff]"


def read_words(name: str) -> list[str]:
    """Return the words in a file, or the lines of a file of phrases."""
    return (files(__package__) / f"{name}.txt").read_text("utf-8").splitlines()


class Words:
    """Searches text in lower case for a list of phrases.

    `call*` also matches longer words. In scripts without spaces between words, or with heavy inflection, a phrase is
    also found within words. Most texts are ASCII, so for them only the ASCII phrases are searched for.
    """

    def __init__(self, name: str) -> None:
        phrases = read_words(name)
        self._all = re.compile(_any_of(phrases))
        self._ascii = re.compile(_any_of([phrase for phrase in phrases if phrase.isascii()]))

    def search(self, text: str) -> re.Match[str] | None:
        """Return the first phrase in a text."""
        return (self._ascii if text.isascii() else self._all).search(text)

    def last(self, text: str) -> re.Match[str] | None:
        """Return the last phrase in a text."""
        found = None
        for each in (self._ascii if text.isascii() else self._all).finditer(text):
            found = each
        return found


@cache
def words(name: str) -> Words:
    """Return the list of phrases in the file of this name."""
    return Words(name)


def _any_of(phrases: Sequence[str]) -> str:
    whole: list[str] = []
    anywhere: list[str] = []
    for phrase in phrases:
        pattern = re.escape(phrase.removesuffix("*")) + (r"\w*" if phrase.endswith("*") else "")
        (whole if is_latin(phrase) else anywhere).append(pattern)
    # Not \b: a Latin word may touch a Chinese or Korean one.
    return "|".join([rf"(?<!{_LATIN})(?:{'|'.join(whole)})(?!{_LATIN})", *anywhere])


def is_latin(phrase: str) -> bool:
    """Return whether a phrase has letters of the Latin script only."""
    return all(each < "\u0250" or "\u1e00" <= each < "\u1f00" for each in phrase)
