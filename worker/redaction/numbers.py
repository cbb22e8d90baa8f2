"""Finds runs of digits, including the separators that may stand between the digits of one number."""

import re
from collections.abc import Iterator
from functools import cached_property

# Possessive, so that a megabyte of digits is read once. `re` skips to a set of characters, but not to a repetition.
_BETWEEN = r"(?:[ ().\-_]{1,3}+|/ ?)"
_RUN = re.compile(rf"[0-9](?:[0-9]++(?:{_BETWEEN}[0-9]++)*+|(?:{_BETWEEN}[0-9]++)++)")
"""At least two digits."""
_GROUP = re.compile("[0-9]+")
_MIN_DIGITS, _MIN_LENGTH = 2, 7
_WORD = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_CONTEXT = 48
_SENTENCE_END = re.compile(r"[?!]\s|\w{4}\.\s|[\u3002\uff1f\uff01]")


class DigitRun:
    """A run of digits in a text in normal form, which may be one number or several."""

    def __init__(self, text: str, start: int, end: int) -> None:
        self.text = text
        self.start = start
        self.end = end
        self.is_short = end - start < _MIN_LENGTH
        """Whether it can only be a part of a number that begins with letters."""
        is_one = text[start:end].isdecimal()
        self.groups = [(start, end)] if is_one else [each.span() for each in _GROUP.finditer(text, start, end)]
        """Start and end of each group of digits."""
        self.digit_count = end - start if is_one else sum(last - first for first, last in self.groups)
        """The number of digits, without the separators."""

    @cached_property
    def before(self) -> str:
        """The text before the run in the same message, in lower case; up to 48 characters."""
        text = self.text[max(0, self.start - _CONTEXT) : self.start].lower()
        return text[text.rfind("\x00") + 1 :]

    @cached_property
    def sentence(self) -> str:
        """The end of `before` that is in the same sentence. `no. 12` is one."""
        ends = [each.end() for each in _SENTENCE_END.finditer(self.before)]
        return self.before[ends[-1] :] if ends else self.before

    def digits(self, start: int, end: int) -> str:
        """Return the digits from `start` to `end`, without the separators."""
        return "".join(_GROUP.findall(self.text, start, end))


def runs(text: str) -> Iterator[DigitRun]:
    """Yield the runs of a normal text that are long enough for any number, or whose number may begin with letters."""
    for found in _RUN.finditer(text):
        start, end = found.span()
        if end - start >= _MIN_LENGTH or (end - start >= _MIN_DIGITS and _may_begin_with_letters(text, start)):
            yield DigitRun(text, start, end)


def _may_begin_with_letters(text: str, start: int) -> bool:
    """Return whether at most six letters precede the digits; in a longer word, such as a hash, no number begins."""
    if not is_word(text, start - 1):
        return False
    before = text[max(0, start - _MIN_LENGTH) : start]
    return not (len(before) == _MIN_LENGTH and before.isascii() and before.isalnum())


def is_word(text: str, place: int) -> bool:
    """Return whether the character at `place` is an ASCII letter, digit or underscore."""
    return place >= 0 and text[place : place + 1] in _WORD


def is_joined(text: str, place: int) -> bool:
    """Return whether the character at `place` is part of a word that continues after it.

    Chinese, Korean or Hebrew letters do not: a number may follow them without a space.
    """
    if place < 0 or place >= len(text):
        return False
    return text[place] in _WORD or text[place].lower() != text[place].upper()
