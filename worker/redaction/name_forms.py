"""The spellings of a name: without accents, in capitals, and with inflectional endings."""

import re
from collections.abc import Iterator
from unicodedata import category, normalize

from worker.redaction.words import read_words

_CYRILLIC = re.compile("[\u0400-\u04ff]+")
_TURKISH = re.compile("[\u011e\u011f\u0130\u0131\u015e\u015f]")
_MIN_STEM = 3
_CASE_ENDINGS = {
    given: (int(cut), endings) for given, cut, *endings in (line.split() for line in read_words("case_endings"))
}
"""By the last letters of a name: how many letters inflection removes, and the endings that may follow."""
_LATIN = re.compile(r"s(?!\w)")
_LATIN_IN_TURKISH = re.compile(r"(?:y?[ae]|n?[iuü]n|y?[iuü]|[dt][ae]n?|y?l[ae])(?!\w)")
_PERSIAN = re.compile("[متش](?!\\w)")
_FOLDED = {0x130: "i", 0x131: "i"}
"""Maps the capital dotted and the small dotless i of Turkish to a plain i."""
_LETTERS = {0x131: "i", 0xF8: "o", 0xD8: "O", 0x142: "l", 0x141: "L", 0x111: "d", 0x110: "D", 0xDF: "ss", 0xE6: "ae"}
"""Letters that Unicode does not decompose into a plain letter and an accent."""
_GERMAN = {ord("ä"): "ae", ord("ö"): "oe", ord("ü"): "ue", ord("Ä"): "Ae", ord("Ö"): "Oe", ord("Ü"): "Ue"}


def spellings(part: str) -> set[str]:
    """Return the spellings of a part of a name: with and without accents, and in other grammatical cases."""
    if part.isascii():
        return {part}
    lower = part.lower()
    # Without a Turkish locale, lower case makes two characters of the capital with a dot.
    dotted = {lower} if "\u0130" in part else set()
    others = {each.capitalize() if part.istitle() else each for each in _other_cases(lower)}
    return {
        normalize("NFC", part),
        normalize("NFD", part),
        _plain(part),
        _plain(part.translate(_GERMAN)),
        *dotted,
        *others,
    }


def _plain(text: str) -> str:
    """Return a text without accents; in scripts without capital letters, marks are vowels and stay."""
    if text.lower() == text.upper():
        return text
    return "".join(each for each in normalize("NFD", text.translate(_LETTERS)) if category(each) != "Mn")


def same_length_lower(text: str) -> str:
    """Return a text in lower case, of the same length, with the dotless i of Turkish replaced by `i`."""
    if not text.isascii() and ("\u0130" in text or "\u0131" in text):
        text = text.translate(_FOLDED)
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(small if len(small := each.lower()) == 1 else each for each in text)


def _other_cases(name: str) -> Iterator[str]:
    """Yield the other grammatical cases of a name, given in lower case. Only in Cyrillic do its last letters change."""
    if len(name) < _MIN_STEM or not _CYRILLIC.fullmatch(name):
        return
    cut, endings = _CASE_ENDINGS.get(name[-2:]) or _CASE_ENDINGS.get(name[-1]) or (0, [])
    yield from (name[: len(name) - cut] + ending for ending in endings)


def is_turkish(text: str) -> bool:
    """Return whether a text has letters that only Turkish and its neighbours use."""
    return bool(_TURKISH.search(text))


def has_ending(lower: str, end: int, in_turkish: bool) -> bool:
    """Return whether an ending that a name may take begins at `end`, and the word ends with it."""
    if lower[end] > "\u05ff":
        return bool(_PERSIAN.match(lower, end))
    return bool(_LATIN.match(lower, end) or (in_turkish and _LATIN_IN_TURKISH.match(lower, end)))
