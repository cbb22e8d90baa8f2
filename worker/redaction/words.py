"""Lists of words in many languages, in the text files next to this module."""

import re
from functools import cache
from importlib.resources import files


def read_words(name: str) -> list[str]:
    """Return the words of a list. In lists of phrases each is a line."""
    return (files(__package__) / f"{name}.txt").read_text("utf-8").splitlines()


@cache
def any_of(name: str) -> str:
    """Return a pattern for the phrases of a list, in lower case.

    `call*` also matches longer words. In scripts that write words together, or inflect them much, a phrase is also
    found within words.
    """
    whole: list[str] = []
    anywhere: list[str] = []
    for phrase in read_words(name):
        pattern = re.escape(phrase.removesuffix("*")) + (r"\w*" if phrase.endswith("*") else "")
        (whole if _is_latin(phrase) else anywhere).append(pattern)
    return "|".join([rf"\b(?:{'|'.join(whole)})\b", *anywhere])


def _is_latin(phrase: str) -> bool:
    return all(each < "\u0250" or "\u1e00" <= each < "\u1f00" for each in phrase)
