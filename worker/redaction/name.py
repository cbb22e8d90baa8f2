"""Finds the names of the people of a conversation, as the platform has them, in any script.

First and last name together are found in any case and order. One of them alone has to be written like a name: `may` and
`May I help you?` stay if the contact is May.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple
from unicodedata import category, normalize

from worker.redaction.kinds import Span
from worker.redaction.words import any_of, read_words

_SPACELESS = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Thai, Lao, Burmese, Khmer, Chinese and Japanese: no spaces between words."""
_HANGUL = re.compile(r"[\uac00-\ud7a3]")
_PREFIXED = re.compile(r"[\u0590-\u06ff]")
"""Hebrew and Arabic: a preposition of one letter may be written together with the name."""
_PREFIXES = frozenset("ובלהמשכوبلكف")
_SEPARATORS = re.compile(r"\s{1,2}|,\s?|[\u00b7\u30fb-]")
_SPLIT = re.compile(r"[\s,.\u00b7\u30fb]+")
_INITIAL = re.compile(r"[^\W\d_a-z]\.?")
_PARTICLES = frozenset(read_words("name_particles"))
_CALLED = re.compile(rf"(?:{any_of('words_before_names')})[\s,.:!-]{{1,3}}$")
_SIGNED = re.compile(r"(?:^|[\n\x00]|[-\u2013\u2014,]\s?)$")
_TITLE_AFTER = re.compile(r"\s?(?:先生|女士|小姐|太太|老师|老師|经理|さん|様|さま|くん|ちゃん|氏|님|씨|군|양)")
_ADDRESS_SIGNS = frozenset("./@_")
_ADDRESS_GOES_ON = re.compile(r"\.\w|[/@_]")
_IN_SENTENCE = re.compile(r"[a-zß-öø-\u024f],? $")
_NEXT_CAPITAL = re.compile(r" ?[A-Z\u00c0-\u00de]")
_SMALL_WORD = re.compile(r" (?:i|you|we|he|she|it|they|the|this|that|be|not|a|an|have)\b")
_CUE_REACH = 32


class _Word(NamedTuple):
    """A part of a name."""

    lower: str
    part: str
    """The part of the name of which it is a spelling."""
    person: int
    forms: frozenset[str]
    """As it is written where it cannot be an ordinary word."""
    is_ordinary: bool


class _Found(NamedTuple):
    start: int
    end: int
    word: _Word


def find_names(text: str, people: Sequence[tuple[str, ...]]) -> Iterator[Span]:
    """Yield the names in a text that is not in normal form. The value is the place of the person in `people`."""
    words = _words(tuple(people))
    if not words:
        return
    lower = _same_length_lower(text)
    found = [each for word in words for each in _occurrences(lower, word)]
    found.sort(key=lambda each: (each.start, -each.end))
    for group in _groups(text, found):
        if _is_full_name(text, group):
            yield Span(group[0].start, group[-1].end, "name", str(group[0].word.person))
        else:
            for each in group:
                if _is_name(text, each):
                    yield Span(each.start, each.end, "name", str(each.word.person))


@lru_cache(512)
def _words(people: tuple[tuple[str, ...], ...]) -> list[_Word]:
    words: dict[str, _Word] = {}
    for person, names in enumerate(people):
        names = tuple(name for name in names if "[" not in name)  # noqa: PLW2901 - placeholders are no names
        parts = [part for name in names for part in _parts(name)]
        spaceless = [name for name in names if _SPACELESS.search(name) and not _SPLIT.search(name)]
        # In Chinese, Japanese and Korean a full name is one word, in either order of its parts.
        if len(names) == 2 and (len(spaceless) == 2 or all(map(_HANGUL.search, names))):
            parts += [names[0] + names[1], names[1] + names[0]]
        for part in parts:
            for form in {normalize("NFC", part), normalize("NFD", part), _plain(part)}:
                lower = _same_length_lower(form)
                forms = frozenset({form, form.upper(), form[:1].upper() + form[1:]})
                words.setdefault(lower, _Word(lower, part, person, forms, is_ordinary(lower)))
    return list(words.values())


def _parts(name: str) -> Iterator[str]:
    for part in (each.strip("\"'()[]-") for each in _SPLIT.split(name.strip())):
        if part.lower() in _PARTICLES or not any(map(str.isalpha, part)):
            continue
        if len(part) > 1 or _SPACELESS.search(part) or _HANGUL.search(part):
            yield part
            if "-" in part:
                yield from (each for each in part.split("-") if len(each) > 2)


def _plain(text: str) -> str:
    """Return a text without accents; in scripts without capital letters, marks are vowels and stay."""
    if text.lower() == text.upper():
        return text
    return "".join(each for each in normalize("NFD", text) if category(each) != "Mn")


def _same_length_lower(text: str) -> str:
    """Return a text in lower case, one character for one: a Turkish capital I with a dot would become two."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(small if len(small := each.lower()) == 1 else each for each in text)


def _occurrences(lower: str, word: _Word) -> Iterator[_Found]:
    size = len(word.lower)
    start = lower.find(word.lower)
    while start >= 0:
        end = start + size
        if _starts(lower, start, word.lower) and _ends(lower, end, word.lower):
            yield _Found(start, end, word)
        start = lower.find(word.lower, end)


def _starts(lower: str, start: int, word: str) -> bool:
    if start == 0 or not _is_part_of_word(lower[start - 1]) or _SPACELESS.match(word):
        return True
    if _PREFIXED.match(word) and len(word) > 2 and lower[start - 1] in _PREFIXES:
        return start == 1 or not _is_part_of_word(lower[start - 2])
    # Between scripts no space is needed: 我是Anna.
    return bool(_SPACELESS.match(lower[start - 1])) and not _HANGUL.match(word)


def _ends(lower: str, end: int, word: str) -> bool:
    if end == len(lower) or not _is_part_of_word(lower[end]) or _SPACELESS.match(word) or _HANGUL.match(word):
        return True
    return bool(_SPACELESS.match(lower[end]) or _HANGUL.match(lower[end]))


def _is_part_of_word(character: str) -> bool:
    return character.isalnum() or character == "_" or category(character)[0] == "M"


def _groups(text: str, found: Sequence[_Found]) -> Iterator[list[_Found]]:
    """Yield words of the same person that follow each other, such as first and last name."""
    group: list[_Found] = []
    for each in found:
        if group and each.start < group[-1].end:
            continue
        if group and not _belongs(text, group, each):
            yield group
            group = []
        group.append(each)
    if group:
        yield group


def _belongs(text: str, group: Sequence[_Found], following: _Found) -> bool:
    """Whether a word continues a name: it is another part of the same person's name, next to it."""
    if following.word.person != group[-1].word.person or any(each.word.part == following.word.part for each in group):
        return False
    return _are_together(text, group[-1].end, following.start)


def _are_together(text: str, end: int, start: int) -> bool:
    between = text[end:start]
    if not between:
        return True
    if len(between) > 12 or "\x00" in between or "\n" in between:
        return False
    if _SEPARATORS.fullmatch(between):
        return True
    middle = between.split()
    is_parts = all(_INITIAL.fullmatch(each) or each.lower() in _PARTICLES for each in middle)
    return bool(middle) and is_parts and between[0] == between[-1] == " "


def _is_full_name(text: str, group: Sequence[_Found]) -> bool:
    """Whether the words of a group are several parts of a name; `will may` in lower case is a question."""
    different = len({each.word.part for each in group}) > 1
    return different and any(not each.word.is_ordinary or text[each.start].isupper() for each in group)


def _is_name(text: str, found: _Found) -> bool:
    """Whether one part of a name is written like a name where it stands alone."""
    start, end, word = found
    given = text[start:end]
    if _SPACELESS.match(given) or _HANGUL.match(given):
        return len(given) > 1 or bool(_TITLE_AFTER.match(text, end))
    is_written_so = given in word.forms or given.istitle() or given.isupper()
    is_capitalised = given.lower() == given.upper() or (given[0] == given[0].upper() and is_written_so)
    if not word.is_ordinary and len(given) > 2:
        return is_capitalised or (len(given) > 3 and not _is_in_address(text, start, end))
    before = text[max(0, start - _CUE_REACH) : start]
    if not is_capitalised:
        return False
    if _CALLED.search(before.lower()):
        return not _continues_sentence(text, end)
    if _IN_SENTENCE.search(before) and not _NEXT_CAPITAL.match(text, end) and given.lower() not in _capitalised_words():
        return given[1:].islower()
    # A message that is only the name, or a signature.
    return bool(_SIGNED.search(before)) and _is_end(text, end)


def _is_in_address(text: str, start: int, end: int) -> bool:
    """Whether a word is part of a URL or a file's name: `www.rossi.example`."""
    return text[start - 1 : start] in _ADDRESS_SIGNS or bool(_ADDRESS_GOES_ON.match(text, end))


def _continues_sentence(text: str, end: int) -> bool:
    """Whether a small word follows, so that `Hello. Will you come?` has no name; `Hello Will, come` has one."""
    return bool(_SMALL_WORD.match(text[end : end + 8].lower()))


def _is_end(text: str, end: int) -> bool:
    return bool(re.match(r"[.!]?\s*(?:$|[\n\x00])", text[end : end + 16])) if end < len(text) else True


def is_ordinary(word: str) -> bool:
    """Whether a name in lower case is also a word of a language."""
    return word in _ordinary_words()


@lru_cache(1)
def _capitalised_words() -> frozenset[str]:
    """Return words that have a capital within a sentence: months, places, German nouns."""
    return frozenset(read_words("words_in_capitals"))


@lru_cache(1)
def _ordinary_words() -> frozenset[str]:
    return frozenset(" ".join(read_words("ordinary_words")).split())
