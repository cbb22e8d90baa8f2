"""Gives a text the form in which patterns are looked for, and maps places back to the original.

Digits of all scripts, full-width characters, and odd spaces and dashes become ASCII, one character for one. Characters
that cannot be seen (bidirectional marks, zero-width characters, soft hyphens) are left out.
"""

import re
from dataclasses import dataclass

_ZEROS = (
    0x660,
    0x6F0,
    0x966,
    0x9E6,
    0xA66,
    0xAE6,
    0xB66,
    0xBE6,
    0xC66,
    0xCE6,
    0xD66,
    0xE50,
    0xED0,
    0xF20,
    0x1040,
    0x17E0,
)
_INVISIBLE = "\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
_TABLE = {
    **{zero + digit: 0x30 + digit for zero in _ZEROS for digit in range(10)},
    **{0xFEE0 + code: code for code in range(0x21, 0x7F)},
    **dict.fromkeys((0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000), 0x20),
    **dict.fromkeys((*range(0x2010, 0x2016), 0x2212), 0x2D),
}
# `re` skips to the next character of a set fast if the pattern begins with the set, and not with its repetition.
_ODD = re.compile("[{0}][{0}]*".format("".join(map(chr, _TABLE)).replace("-", r"\-")))
_HIDDEN = re.compile(f"[{_INVISIBLE}][{_INVISIBLE}]*")
_LONG_VOWEL = re.compile("(?<=[0-9])\u30fc(?=[0-9])")
"""In Japanese the sign for a long vowel is often typed for the dash of a number."""


@dataclass(frozen=True, slots=True)
class Normal:
    """A text in normal form, and where each of its characters is in the original."""

    text: str
    offsets: list[int] | None
    """The place of each character in the original; None if nothing was left out."""

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Return the place in the original of the characters from `start` up to `end`, which is after `start`."""
        if self.offsets is None:
            return start, end
        return self.offsets[start], self.offsets[end - 1] + 1


def normalize(text: str) -> Normal:
    """Return the normal form of a text."""
    if text.isascii():
        return Normal(text, None)
    offsets: list[int] | None = None
    if _HIDDEN.search(text):
        offsets, pieces, after = [], [], 0
        for found in _HIDDEN.finditer(text):
            offsets += range(after, found.start())
            pieces.append(text[after : found.start()])
            after = found.end()
        offsets += range(after, len(text))
        text = "".join([*pieces, text[after:]])
    text = _ODD.sub(lambda found: found[0].translate(_TABLE), text)
    return Normal(_LONG_VOWEL.sub("-", text) if "\u30fc" in text else text, offsets)
