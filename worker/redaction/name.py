"""Finds the names of the people in a conversation, as the platform stores them, in any script.

First and last name together are found in any case and order. One of them alone has to be written like a name: `may` and
`May I help you?` stay if the contact is May.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple
from unicodedata import category

from worker.redaction.kinds import Span
from worker.redaction.name_context import (
    ALONE_AFTER,
    CUE_REACH,
    HANGUL,
    TITLE_AFTER,
    continues_sentence,
    has_title,
    is_called,
    is_end,
    is_in_address,
    stands_alone,
)
from worker.redaction.name_forms import has_ending, is_turkish, same_length_lower, spellings
from worker.redaction.words import read_words

_SPACELESS = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Letters of scripts without spaces between words: Thai, Lao, Burmese, Khmer, Chinese and Japanese."""
_PREFIXED = re.compile(r"[\u0590-\u06ff]")
"""Letters of Hebrew and Arabic, in which a preposition of one letter may be joined to the name."""
_PREFIXES = frozenset("ובלהמשכوبلكف")
_SEPARATORS = re.compile(r"\s{1,2}|,\s?|[\u00b7\u30fb-]")
_SPLIT = re.compile(r"[\s,.\u00b7\u30fb]+")
_INITIAL = re.compile(r"[^\W\d_a-z]\.?")
_PARTICLES = frozenset(read_words("name_particles"))
_MARKED = frozenset(
    ["''", '""', "()", "<>", "[]", "**", "__", "\u201c\u201d", "\u201e\u201c", "\u2018\u2019", "«»", "「」"]
)
"""Quotes, brackets and bold markers that may enclose a name."""
_SIGNED = re.compile(r"(?:^|[\n\x00]|[-\u2013\u2014,]\s?)$")
_IN_SENTENCE = re.compile(r"[a-zß-öø-\u024f],? $")
_NEXT_CAPITAL = re.compile(r" ?[A-Z\u00c0-\u00de]")
_MIN_WITH_ENDING, _MIN_UNCASED_WITH_ENDING = 4, 3
_NO_MARKS = frozenset("\ufe0e\ufe0f\u20e3")
"""Combining characters that belong to an emoji, not to the word before them."""


class _Word(NamedTuple):
    """A part of a name."""

    lower: str
    part: str
    """The part of the name that this word spells."""
    person: int
    forms: frozenset[str]
    """The spellings that cannot be mistaken for an ordinary word."""
    is_ordinary: bool
    particles: str
    """The particles before this part of the name, in lower case with spaces: `van der `."""


class _Found(NamedTuple):
    start: int
    end: int
    word: _Word


def find_names(text: str, people: Sequence[tuple[str, ...]]) -> Iterator[Span]:
    """Yield the names in an original text. The value of a span is the index of the person in `people`."""
    words = _words(tuple(people))
    if not words:
        return
    lower = same_length_lower(text)
    in_turkish = not text.isascii() and is_turkish(text)
    present = [word for word in words if word.lower in lower]
    found = [each for word in present for each in _occurrences(text, lower, word, in_turkish)]
    found.sort(key=lambda each: (each.start, -each.end))
    for group in _groups(text, found):
        if _is_full_name(text, group):
            yield Span(_with_particles(lower, group[0]), group[-1].end, "name", str(group[0].word.person))
        else:
            for each in group:
                if _is_name(text, each):
                    yield Span(_with_particles(lower, each), each.end, "name", str(each.word.person))


def _with_particles(lower: str, found: _Found) -> int:
    """Return where the name begins, including its particles: `van der Veen` has two."""
    if not found.word.particles:
        return found.start
    start = found.start - len(found.word.particles)
    is_whole = start >= 0 and lower.startswith(found.word.particles, start)
    return start if is_whole and (start == 0 or not _is_part_of_word(lower[start - 1])) else found.start


@lru_cache(512)
def _words(people: tuple[tuple[str, ...], ...]) -> list[_Word]:
    words: dict[str, _Word] = {}
    for person, names in enumerate(people):
        for word in _words_of(person, names):
            words.setdefault(word.lower, word)
    return list(words.values())


@lru_cache(4096)
def _words_of(person: int, names: tuple[str, ...]) -> list[_Word]:
    names = tuple(name for name in names if "[" not in name)  # placeholders are no names
    parts = [part for name in names for part in _parts(name)]
    # In Chinese, Japanese and Korean a full name is one word, in either order of its parts.
    if len(names) == 2 and not (names[0].isascii() or names[1].isascii()):
        spaceless = [name for name in names if _SPACELESS.search(name) and not _SPLIT.search(name)]
        if len(spaceless) == 2 or all(map(HANGUL.search, names)):
            orders = [names, names[::-1]]
            if HANGUL.search(names[0]) and (len(names[0]) == 1) != (len(names[1]) == 1):
                orders.sort(key=lambda order: len(order[0]))  # the family name, of one syllable, stands first
                orders.pop()
            parts += [("".join(order), "") for order in orders]
    words: list[_Word] = []
    for part, particles in parts:
        for form in spellings(part):
            lower = same_length_lower(form)
            forms = frozenset({form, form.upper(), form[:1].upper() + form[1:]})
            ordinary = is_ordinary(lower) or is_ordinary(part.lower())
            words.append(_Word(lower, part, person, forms, ordinary, particles))
    return words


def _parts(name: str) -> Iterator[tuple[str, str]]:
    """Yield the parts of a name, each with the particles before it."""
    particles = ""
    for part in (each.strip("\"'()[]-") for each in _SPLIT.split(name.strip())):
        if part.lower() in _PARTICLES:
            particles += same_length_lower(part) + " "
            continue
        if any(map(str.isalpha, part)) and (len(part) > 1 or _SPACELESS.search(part) or HANGUL.search(part)):
            yield part, particles
            if "-" in part:
                yield from ((each, "") for each in part.split("-") if len(each) > 2)
        particles = ""


def _occurrences(text: str, lower: str, word: _Word, in_turkish: bool) -> Iterator[_Found]:
    size = len(word.lower)
    start = lower.find(word.lower)
    while start >= 0:
        end = start + size
        if _starts(lower, start, word.lower) and (
            _ends(lower, end, word.lower) or _is_inflected(text, lower, start, word, in_turkish)
        ):
            yield _Found(start, end, word)
        start = lower.find(word.lower, end)


def _starts(lower: str, start: int, word: str) -> bool:
    if start == 0 or not _is_part_of_word(lower[start - 1]) or _SPACELESS.match(word):
        return True
    if _PREFIXED.match(word) and len(word) > 2 and lower[start - 1] in _PREFIXES:
        return start == 1 or not _is_part_of_word(lower[start - 2])
    # Between scripts no space is needed: 我是Anna.
    return bool(_SPACELESS.match(lower[start - 1])) and not HANGUL.match(word)


def _ends(lower: str, end: int, word: str) -> bool:
    if end == len(lower) or not _is_part_of_word(lower[end]) or _SPACELESS.match(word) or HANGUL.match(word):
        return True
    return bool(_SPACELESS.match(lower[end]) or HANGUL.match(lower[end]))


def _is_inflected(text: str, lower: str, start: int, word: _Word, in_turkish: bool) -> bool:
    """Return whether the name has an inflectional ending: `Annas`. In lower case it may be another word: `andere`."""
    is_cased = text[start].lower() != text[start].upper()
    if word.is_ordinary or len(word.lower) < (_MIN_WITH_ENDING if is_cased else _MIN_UNCASED_WITH_ENDING):
        return False
    is_written_so = not is_cased or text[start].isupper()
    return is_written_so and has_ending(lower, start + len(word.lower), in_turkish)


def _is_part_of_word(character: str) -> bool:
    if character.isalnum() or character == "_":
        return True
    return not character.isascii() and category(character)[0] == "M" and character not in _NO_MARKS


def _groups(text: str, found: Sequence[_Found]) -> Iterator[list[_Found]]:
    """Yield groups of consecutive words that name the same person, such as first and last name."""
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
    """Return whether the next word is another part of the same person's name, directly after the group."""
    if following.word.person != group[-1].word.person or any(each.word.part == following.word.part for each in group):
        return False
    is_syllable = len(following.word.lower) == 1 and HANGUL.match(following.word.lower)
    if is_syllable and HANGUL.match(text, following.end):
        return False  # It begins another word.
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
    """Return whether the group has several parts of a name. In lower case, `will may` may be a question."""
    different = len({each.word.part for each in group}) > 1
    return different and any(not each.word.is_ordinary or text[each.start].isupper() for each in group)


def _is_name(text: str, found: _Found) -> bool:
    """Return whether a single part of a name is written like a name, and not like an ordinary word."""
    start, end, word = found
    given = text[start:end]
    before = text[max(0, start - CUE_REACH) : start]
    if _SPACELESS.match(given) or HANGUL.match(given):
        return len(given) > 1 or bool(TITLE_AFTER.match(text, end)) or stands_alone(text, before, end)
    is_written_so = given in word.forms or given.istitle() or given.isupper()
    is_capitalised = given.lower() == given.upper() or (given[0] == given[0].upper() and is_written_so)
    is_distinct = not word.is_ordinary and len(given) > 2
    if is_distinct and (is_capitalised or (len(given) > 3 and not is_in_address(text, start, end))):
        return True
    is_cased = given.lower() != given.upper()
    if is_cased and has_title(before, is_capitalised=is_capitalised):
        return True
    if not is_capitalised or not is_cased:
        return bool(ALONE_AFTER.match(text, end)) and is_called(before)
    if is_called(before):
        return not continues_sentence(text, end)
    if before[-1:] + text[end : end + 1] in _MARKED:
        return True
    if _IN_SENTENCE.search(before) and not _NEXT_CAPITAL.match(text, end) and given.lower() not in _capitalised_words():
        return given[1:].islower()
    # A message that is only the name, or a signature.
    return bool(_SIGNED.search(before)) and is_end(text, end)


def is_ordinary(word: str) -> bool:
    """Return whether a name, given in lower case, is also an ordinary word of some language."""
    return word in _ordinary_words()


@lru_cache(1)
def _capitalised_words() -> frozenset[str]:
    """Return the words that are capitalised within sentences without being names: months, places, German nouns."""
    return frozenset(read_words("words_in_capitals"))


@lru_cache(1)
def _ordinary_words() -> frozenset[str]:
    return frozenset(" ".join(read_words("ordinary_words")).split())
