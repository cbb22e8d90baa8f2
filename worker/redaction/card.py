"""Finds payment card numbers by the issuer's first digits and by Luhn's check digit."""

import re
from collections.abc import Iterator
from itertools import pairwise

from worker.redaction.kinds import Span
from worker.redaction.numbers import DigitRun, is_word
from worker.redaction.words import words

# Each issuer's first digits, and how many digits its numbers have. https://en.wikipedia.org/wiki/Payment_card_number
_ISSUERS = (
    (r"4", {16, 19}),
    (r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720|220[0-4]|9792|3528|3529|35[3-8]|50|56|57|58|60|65|81|82|508", {16}),
    (r"3[47]|1800|2131", {15}),
    (r"30[0-5]|3[689]", {14, 16}),
    (r"6", {16, 18, 19}),
    (r"50(?:18|20|38)|5893|6304|6759|676[1-3]", {17, 18, 19}),
    (r"35|62", {16, 17, 18, 19}),
)
_STARTS = [(re.compile(pattern), lengths) for pattern, lengths in _ISSUERS]
_PREFERRED = (16, 15, 14, 19, 18, 17, 13, 12)
_LONG, _GROUPS_OF_LONG = (19, 18, 17), 5
_CARD_WORDS = words("card_words")
_SHORTEST, _LONGEST = min(_PREFERRED), max(_PREFERRED)
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")
_MAX_GROUPS = 400
"""Maximum number of groups in a run of digits. A longer run is a table of figures."""
_IN_IBAN = re.compile(r"(?<![a-z0-9])[a-z]{2}[0-9]{2}(?:[ -]?[a-z0-9]{4}){0,8}[ -]?$")


def find_cards(run: DigitRun) -> Iterator[Span]:
    """Yield the card numbers in a run of digits. Each begins and ends with a whole group."""
    if run.digit_count < _SHORTEST or is_word(run.text, run.end):
        return
    if _is_in_iban(run):
        return
    groups = run.groups[:_MAX_GROUPS]
    is_named = bool(_CARD_WORDS.search(run.before))
    first = 0
    while first < len(groups):
        start = groups[first][0]
        is_inside = is_word(run.text, start - 1) or run.text[start - 1 : start] == "+"
        last = None if is_inside else _last_group(run, first, groups, is_named)
        if last is None:
            first += 1
            continue
        end = groups[last][1]
        yield Span(start, end, "card", run.digits(start, end))
        first = last + 1


def _last_group(run: DigitRun, first: int, groups: list[tuple[int, int]], is_named: bool) -> int | None:
    """Return the last group of the card number that begins with group `first`, or None if none does.

    `is_named`: the words before it speak of a card, so that the issuer's digits and the length may be any.
    """
    digits = ""
    ends: dict[int, int] = {}
    for place in range(first, len(groups)):
        start, end = groups[place]
        if len(digits) + end - start > _LONGEST:
            break
        digits += run.text[start:end]
        ends[len(digits)] = place
    long = [length for length in _LONG if length in ends and _goes_on(run, groups[first : ends[length] + 1])]
    for length in (*long, *_PREFERRED):
        if length in ends and _is_card(digits[:length], is_named):
            return ends[length]
    return None


def _goes_on(run: DigitRun, groups: list[tuple[int, int]]) -> bool:
    """Return whether the last group belongs to a longer number in groups of four, so that no card number ends here."""
    between = {run.text[end:start] for (_, end), (start, _) in pairwise(groups)}
    sizes = [end - start for start, end in groups]
    return len(sizes) == _GROUPS_OF_LONG and set(sizes[:-1]) == {4} and len(between) == 1


def _is_in_iban(run: DigitRun) -> bool:
    """Return whether the run is part of an IBAN, which begins before the run or with its first two digits."""
    start, end = run.groups[0]
    before = run.before + run.text[start:end] + " " if end - start == 2 else run.before
    return bool(_IN_IBAN.search(before))


def _is_card(digits: str, is_named: bool) -> bool:
    possible = is_named or any(len(digits) in lengths and start.match(digits) for start, lengths in _STARTS)
    return possible and luhn(digits) and len(set(digits)) > 1


def luhn(digits: str) -> bool:
    """Return whether the last digit is Luhn's check digit."""
    code = digits.encode()
    return (sum(code[-1::-2]) + sum(code[-2::-2].translate(_DOUBLED)) - 48 * len(code)) % 10 == 0
