"""Converts a text to the normal form that patterns are applied to, and maps positions back to the original.

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
# `re` skips quickly to the next match if a pattern begins with a character set that is not repeated.
_ODD = re.compile("[{0}][{0}]*".format("".join(map(chr, _TABLE)).replace("-", r"\-")))
_HIDDEN = re.compile(f"[{_INVISIBLE}][{_INVISIBLE}]*")
_LONG_VOWEL = re.compile("(?<=[0-9])\u30fc(?=[0-9])")
"""The Japanese long-vowel mark between digits, where it is often typed instead of a dash."""


@dataclass(frozen=True, slots=True)
class Normal:
    """A text in normal form, with the position of each of its characters in the original."""

    text: str
    offsets: list[int] | None
    """The position of each character in the original; None if no character was removed."""

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Return start and end in the original of the characters from `start` to `end`, exclusive; `end` > `start`."""
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
