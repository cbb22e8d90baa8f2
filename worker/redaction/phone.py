"""Finds phone numbers: those with a country code, and those of the organization's and the contact's regions."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumber, PhoneNumberMatcher

from worker.redaction.kinds import Hints, Span
from worker.redaction.numbers import DigitRun, is_word
from worker.redaction.words import read_words, words

_MIN_DIGITS, _MAX_DIGITS = 7, 15
_MAX_RUN = 64
"""Maximum number of digits in a run. A longer run is a table of figures."""
_LONGEST_PLACE = 40
_LONGEST_TEXT = 250
"""Maximum length of a text that phonenumbers parses, in characters."""
_DATE = re.compile(
    r"(?<![0-9])(?<![0-9][-./])(?:(?:19|20)[0-9]{2}([-./ ])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12][0-9]|3[01])"
    r"|(?:0?[1-9]|[12][0-9]|3[01])([-./])(?:0?[1-9]|[12][0-9]|3[01])\2(?:19|20)?[0-9]{2}"
    r"|(?:19|20)[0-9]{2} ?[-/] ?(?:19|20)?[0-9]{2})(?![-./]?[0-9])"
)
_COMPACT_DATE = re.compile(r"(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])(?:[0-9]{6})?|1[67][0-9]{8}")
"""Matches dates without separators, also with a time, and times in seconds since 1970."""
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_FIGURES = re.compile(
    r"[0-9]{1,2}(?:\.[0-9]{3}){1,2}|[0-9]{1,2}(?: [0-9]{3}){1,2}|[0-9]{3}[. ][0-9]{3}|(?:0|[1-9][0-9]*)\.[0-9]+"
    r"|(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}|[0-9]{1,3}\.[0-9]{1,2}\.[0-9]{3,5}\.[0-9]{1,4}"
)
"""Matches large numbers, decimals, IP addresses and versions, which are no phone numbers unless a word says so."""
_NEVER = re.compile(
    rf"(?:[1-9]?[0-9]|1[0-9]{{2}})\.[0-9]{{4,}}(?: .*)?|{_OCTET}(?:\.{_OCTET}){{3}}(?:/[0-9]{{1,2}})?"
    r"|[0-9]{1,3}\.[0-9]{1,2}\.[0-9]{3,5}\.[0-9]{1,4}|(?:19|20)[0-9]{12}|97[89][- ]?[0-9][0-9 -]{8,12}"
    r"|[0-9]-[0-9]{2,7}-[0-9]{2,7}-[0-9]|[0-2]?[0-9]\.[0-5][0-9] ?- ?[0-2]?[0-9]\.[0-5][0-9]"
)
"""Matches what is no phone number whatever the words before it: coordinates, IP addresses, versions, dates, ISBNs,
opening hours."""
_CURRENCY = re.compile(
    rf",[0-9]{{2}}\b| ?(?:(?:{'|'.join(read_words('currencies'))})(?!\w)|円|元(?!気)|원(?![하해합함]))",
    re.IGNORECASE,
)
_EXTENSION = re.compile(r"(?i: ?(?:x|ext\.?|extension|durchwahl) ?)[0-9]{1,6}(?![0-9A-Za-z])")
_AMERICAN = re.compile(r"(?:1[-. ])?\(?[2-9][0-9]{2}(?:\)[ -]?|[-. ])[2-9][0-9]{2}[-. ][0-9]{4}")
_NANP = 1
_PHONE_WORDS = words("phone_words")
_OTHER_WORDS = words("other_number_words")
_OTHER_NUMBER = re.compile(
    r"(?<!\w)(?!\w*(?:fon|foon|handy|mobi|cell|gsm|fax|ruf|festnetz|kontakt|contact|whatsapp))[a-zß-ö]{3,20}?(?:nummer|nr)(?!\w)"
    "|(?<=[가-힣])(?<![제내새본])(?<!전화)(?<!폰)(?<!팩스)(?<!연락처)(?<!연락)번호"
    "|(?<=[\u3041-\u30ff\u3400-\u9fff])(?<![のがはを])(?<!電話)(?<!携帯)(?<!連絡先)(?<!連絡)(?<!新)番号"
    "|(?<=[\u3400-\u9fff])(?<![的新旧我你您他她这這个個几本])(?<!电话)(?<!手机)(?<!联系)(?<!電話)(?<!手機)号码"
    "|(?<=[\u3400-\u9fff])(?<![番机機话話信同的新旧我你您他她这這个個几本])号(?!码)"
)
"""`Number` written together with what it is the number of: `ordernummer`, `상품번호`."""
_NOT_BEFORE = frozenset("#$€£¥₹₽₩№@")
_MARKS = frozenset("=_*")
"""Before a number, these show that it is no phone number, unless the same character follows it, as in `*bold*`."""
_DIGITS = re.compile("[0-9]+")
_NUMBER = re.compile("[0-9]{3}")
_NOT_AFTER = frozenset("%€$£¥₹₽₩°_=")
_JOINED = frozenset("-/.:_,")


def find_phones(run: DigitRun, hints: Hints) -> Iterator[Span]:
    """Yield the phone numbers in a run."""
    if not _MIN_DIGITS <= run.digit_count <= _MAX_RUN:
        return
    start, end = _with_plus(run), run.end
    if _is_other(run, start, end):
        return
    given = run.text[start:end]
    regions = tuple(hints.regions)
    if given.startswith(("+", "(+")) or run.digits(start, end).startswith("00"):
        if found := _international(given, not given.startswith(("+", "(+"))):
            yield from _spans(run, start, [found])
            # Another number may follow without its country code.
            rest = start + found[1] + (run.text[start + found[1] : end].find(" ") + 1 or end)
            if rest < end and not _DATE.search(run.text, rest, end):
                yield from _spans(run, rest, _national(run.text[rest:end], regions, True))
            return
    elif start > 0 and run.text[start - 1] in _NOT_BEFORE:
        return
    says = _context(run)
    if says <= 0 and _is_marked(run.text, start, end):
        return
    if says >= 0 and not _DATE.search(given):
        yield from _spans(run, start, _national(given, regions, says > 0))


def normal_form(text: str, regions: Sequence[str]) -> str:
    """Return a phone number as `+` and digits if it is valid in one of the regions, otherwise its digits alone."""
    for region in (None, *regions):
        number, is_possible = _parse(text, region)
        if number is not None and is_possible:
            return f"+{number.country_code}{number.national_number}"
    return "".join(filter(str.isdigit, text))


def digits_of(text: str) -> set[str]:
    """Return the digits of a phone number, and those without the country code or the zero before it.

    A number without plus may have a country code all the same.
    """
    digits = "".join(str(int(each)) for each in text if each.isdecimal())
    found = {digits, digits.lstrip("0")}
    international = digits.removeprefix("00")
    if "+" in text or not international.startswith("0"):
        number, is_possible = _parse(f"+{international}", None)
        if number is not None and is_possible and ("+" in text or phonenumbers.is_valid_number(number)):
            found.add(str(number.national_number))
    return found


def region_of(text: str) -> str | None:
    """Return the region of a number with country code, such as `DE`; None if it has none."""
    number, _ = _parse(text, None)
    if number is None:
        return None
    region = phonenumbers.region_code_for_country_code(number.country_code or 0)
    return region if len(region) == 2 and region != "ZZ" else None


def _spans(run: DigitRun, start: int, found: Sequence[tuple[int, int, str]]) -> Iterator[Span]:
    for first, last, value in found:
        extension = _EXTENSION.match(run.text, start + last)
        yield Span(start + first, extension.end() if extension else start + last, "phone", value)


def is_valid(given: str, regions: Sequence[str]) -> bool:
    """Return whether a text is a number that may be assigned in one of the regions, and is dialled there as written."""
    for region in regions:
        if phonenumbers.ndd_prefix_for_region(region, True) == "0" and not given.startswith(("0", "(0")):
            continue
        with suppress(NumberParseException):
            if phonenumbers.is_valid_number(phonenumbers.parse(given, region)):
                return True
    return False


def _is_marked(text: str, start: int, end: int) -> bool:
    """Return whether a neighbouring character shows that this is no number: a value in code, or half-masked digits."""
    mark = text[start - 1 : start]
    if mark == "=":
        return is_word(text, start - 2)
    return bool(mark) and mark in _MARKS and mark != text[end : end + 1]


def _with_plus(run: DigitRun) -> int:
    """Return where a run begins if `+` and an opening bracket before it are part of it."""
    text, start = run.text, run.start
    inner = text[run.start : run.end]
    # A bracket that is not closed within the number stands around it.
    brackets = inner.count(")") - inner.count("(")
    for sign in ("(", "+", "("):
        if text[start - 1 : start] == sign and start > 0 and (sign == "+" or brackets > 0):
            start -= 1
            brackets -= sign == "("
    return start


def _is_other(run: DigitRun, start: int, end: int) -> bool:
    """Return whether the text around the run shows that it is part of something else, such as an id or an amount."""
    text = run.text
    if is_word(text, start - 1) or (is_word(text, end) and text[end : end + 1].lower() not in {"x", "e"}):
        return True
    if text[start] == "+":
        return False
    if start > 1 and text[start - 1] in _JOINED - {":", ",", "."} and is_word(text, start - 2):
        return True
    if (text[end : end + 1] in _NOT_AFTER and end < len(text) and text[end] != text[start - 1 : start]) or (
        _CURRENCY.match(text, end)
    ):
        return True
    return text[end : end + 1] in {"-", "/", "@"} and is_word(text, end + 1)


def _context(run: DigitRun) -> int:
    """Return 1 if the words before the run announce a phone number, -1 if another number, 0 if neither."""
    phone, other = _PHONE_WORDS.last(run.before), _last_other(run.sentence)
    if other is not None and _NUMBER.search(run.sentence, other.end()):
        other = None  # The word spoke of the number that follows it.
    if phone is None or other is None:
        return int(phone is not None) - int(other is not None)
    # `order number` is one word in some languages.
    ahead = len(run.before) - len(run.sentence)
    is_other = other.end() + ahead >= phone.end() or phone.start() - other.end() - ahead <= 1
    return -1 if is_other else 1


def _last_other(sentence: str) -> re.Match[str] | None:
    """Return the last words that speak of another number than a phone's."""
    found = [each for each in (_OTHER_WORDS.last(sentence), *_OTHER_NUMBER.finditer(sentence)) if each]
    return max(found, key=re.Match.end, default=None)


def _parse(text: str, region: str | None) -> tuple[PhoneNumber | None, bool]:
    """Parse a phone number; return it, or None if the text is none, and whether its length is possible."""
    return _parse_short(text, region) if len(text) <= _LONGEST_TEXT else (None, False)


@lru_cache(4096)
def _parse_short(text: str, region: str | None) -> tuple[PhoneNumber | None, bool]:
    try:
        number = phonenumbers.parse(text, region)
    except NumberParseException:
        return None, False
    return number, phonenumbers.is_possible_number_with_reason(number) == phonenumbers.ValidationResult.IS_POSSIBLE


@lru_cache(4096)
def _international(given: str, bare: bool) -> tuple[int, int, str] | None:
    """Return start, end and normal form of a number with a country code, or None.

    `bare`: it begins with 00 instead of `+`, and so has to be valid.
    """
    first = given.index("+") if "+" in given else 0
    if given.count("+") > 1:
        return None
    # After a space, another number may follow, such as a time.
    found = None
    ends = _ends(given)
    for last in ends:
        text = given[first:last]
        number, is_possible = _parse(text if not bare else "+" + text[2:], None)
        if number is None:
            continue
        is_enough = found is None and not bare and is_possible
        # Parsing is slow, and not needed if no other number is possible.
        is_valid = not (is_enough and last == ends[-1]) and phonenumbers.is_valid_number(number)
        if is_valid or is_enough:
            opened = text.count("(") < text.count(")")
            found = (first - 1 if opened and first else first), last, f"+{number.country_code}{number.national_number}"
            if is_valid:
                break
    return found


def _ends(given: str) -> list[int]:
    """Return the positions where a number may end: after each group of digits, the last group first."""
    ends = [each.end() for each in _DIGITS.finditer(given)]
    return ends[:8][::-1]


@lru_cache(4096)
def _national(given: str, regions: tuple[str, ...], expected: bool) -> list[tuple[int, int, str]]:
    """Return start, end and normal form of numbers without a country code. `expected`: words announce a phone."""
    digits = "".join(filter(str.isdigit, given))
    if _NEVER.fullmatch(given):
        return []
    if not expected and (_FIGURES.fullmatch(given) or _COMPACT_DATE.fullmatch(digits)):
        return []
    for region in regions:
        matcher = PhoneNumberMatcher(given, region, leniency=phonenumbers.Leniency.VALID, max_tries=20)
        found = [
            (each.start, each.end, f"+{each.number.country_code}{each.number.national_number}")
            for each in matcher
            if each.end - each.start <= _LONGEST_PLACE
        ]
        if found:
            return found
    for region in regions:
        code = phonenumbers.country_code_for_region(region)
        if code == _NANP and (american := _AMERICAN.fullmatch(given)):
            return [(0, american.end(), f"+1{digits[-10:]}")]
        if trunk := _possible(given, digits, region, expected):
            return [(0, len(given), trunk)]
    return [(0, len(given), digits)] if expected and len(digits) <= _MAX_DIGITS else []


def _possible(given: str, digits: str, region: str, expected: bool) -> str | None:
    """Return the normal form of a number that is not assigned but has the form of a phone number, or None."""
    prefix = phonenumbers.ndd_prefix_for_region(region, True)
    if len(digits) > _MAX_DIGITS or not (
        expected or (prefix and digits.startswith(prefix) and len(given) > len(digits))
    ):
        return None
    try:
        number = phonenumbers.parse(given, region)
    except NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None
    return f"+{number.country_code}{number.national_number}"
