"""Finds national identity numbers with valid check digits, by python-stdnum."""

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

from worker.redaction.kinds import Hints, Span
from worker.redaction.numbers import DigitRun, is_word
from worker.redaction.words import words

# Numbers with letters, or with enough check digits to rule out chance. They are looked for in every text.
_EVERYWHERE = (
    (
        "it.codicefiscale",
        re.compile(r"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPR-T][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]", re.IGNORECASE),
    ),
    ("mx.curp", re.compile(r"[A-Z]{4}[0-9]{6}[HM][A-Z]{5}[0-9A-Z][0-9]", re.IGNORECASE)),
    ("es.dni", re.compile(r"[0-9]{8}[ -]?[A-Z]", re.IGNORECASE)),
    ("es.nie", re.compile(r"[XYZ][ -]?[0-9]{7}[ -]?[A-Z]", re.IGNORECASE)),
    ("fi.hetu", re.compile(r"[0-9]{6}[-+ABCDEFYXWVU][0-9]{3}[0-9A-Z]")),
    ("cn.ric", re.compile(r"[0-9]{6}(?:19|20)[0-9]{9}[0-9X]", re.IGNORECASE)),
    ("fr.nir", re.compile(r"[12] ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}")),
    ("ie.pps", re.compile(r"[0-9]{7}[A-W][AHWTX]?", re.IGNORECASE)),
    ("ch.ssn", re.compile(r"756[. ]?[0-9]{4}[. ]?[0-9]{4}[. ]?[0-9]{2}")),
    ("kr.rrn", re.compile(r"[0-9]{6}-[1-8][0-9]{6}")),
    ("us.ssn", re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{4}")),
    ("br.cpf", re.compile(r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}")),
    ("cl.rut", re.compile(r"[0-9]{1,2}\.[0-9]{3}\.[0-9]{3}-[0-9K]", re.IGNORECASE)),
)
_SHAPES = re.compile("|".join(f"(?:{pattern.pattern})" for _, pattern in _EVERYWHERE), re.IGNORECASE)
"""All shapes in one pattern, because most runs of digits have none of them."""
# Digits alone, of which a tenth or a hundredth would pass by chance. They are looked for in the regions only.
_IN_REGION = {
    "AR": ("ar.cuit",),
    "AT": ("at.vnr",),
    "AU": ("au.tfn",),
    "BE": ("be.nn",),
    "BG": ("bg.egn",),
    "BR": ("br.cpf",),
    "CA": ("ca.sin",),
    "CL": ("cl.rut",),
    "CZ": ("cz.rc",),
    "DE": ("de.idnr",),
    "DK": ("dk.cpr",),
    "DO": ("do.cedula",),
    "EC": ("ec.ci",),
    "EE": ("ee.ik",),
    "GB": ("gb.nhs",),
    "GR": ("gr.amka",),
    "HR": ("hr.oib",),
    "IL": ("il.idnr",),
    "IN": ("in_.aadhaar",),
    "IS": ("is_.kennitala",),
    "JP": ("jp.in_",),
    "KR": ("kr.rrn",),
    "LT": ("lt.asmens",),
    "LV": ("lv.pk",),
    "NL": ("nl.bsn",),
    "NO": ("no.fodselsnummer",),
    "NZ": ("nz.ird",),
    "PL": ("pl.pesel",),
    "PT": ("pt.nif",),
    "RO": ("ro.cnp",),
    "RU": ("ru.inn",),
    "SE": ("se.personnummer",),
    "SI": ("si.emso",),
    "SK": ("sk.rc",),
    "TH": ("th.pin",),
    "TR": ("tr.tckimlik",),
    "UA": ("ua.rntrc",),
    "ZA": ("za.idnr",),
}
_SIZES = {"au.tfn": {9}, "il.idnr": {9}, "ru.inn": {12}}
"""The number of digits of a person's number, where the check also accepts other numbers."""
_MIN_DIGITS, _MAX_DIGITS = 5, 22
_NONE = re.compile(
    r"(?:19|20)[0-9]{2}[-./ ]?[01]?[0-9][-./ ]?[0-3]?[0-9]|[0-3]?[0-9][-./ ][01]?[0-9][-./ ](?:19|20)?[0-9]{2}"
    r"|[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9]{1,3}\.[0-9]+"
    r"|[0-2]?[0-9]\.[0-5][0-9] ?- ?[0-2]?[0-9]\.[0-5][0-9]|(?:19|20)[0-9]{2}[-/](?:19|20)[0-9]{2}"
)
"""Matches dates, IP addresses, decimals and times, which are no national ids."""
_NOT_AFTER = re.compile(r",[0-9]{2}\b|[.][0-9]| ?[€$£¥%°]| ?(?:eur|usd|gbp|chf|brl)\b|[/=&]|[?][a-z0-9]", re.IGNORECASE)
_NOT_BEFORE = frozenset("#+-/$€£")
_ID_WORDS = words("id_words")
_PHONE_WORDS = words("phone_words")
_REACH, _LETTERS_FIRST = 8, 6
"""Maximum number of letters before the first digits. An Italian number begins with six."""
_OTHER_WORDS = re.compile(
    r"\b(?:orders?|invoices?|tickets?|tracking|booking|bestell\w*|rechnung\w*|pedidos?)\b"
    r"|заказ|订单|注文|주문|طلب|سفارش|הזמנה"
)


def find_national_ids(run: DigitRun, hints: Hints) -> Iterator[Span]:
    """Yield the national id that contains a run of digits, or consists of it."""
    text = run.text
    start = run.start
    while start > max(0, run.start - _REACH) and is_word(text, start - 1):
        start -= 1
    if _may_have_shape(run, start) and not is_word(text, start - 1) and _SHAPES.match(text, start):
        for name, pattern in _EVERYWHERE:
            found = pattern.match(text, start)
            if found and not _goes_on(text, found.end()) and found.end() > run.start and _is_valid(name, found[0]):
                yield _span(start, found[0])
                return
    names = [name for region in hints.regions for name in _IN_REGION.get(region, ())]
    given = text[run.start : run.end]
    if names and _may_be_digits_alone(run, given):
        fits = any(run.digit_count in _SIZES.get(name, {run.digit_count}) and _is_valid(name, given) for name in names)
        if fits and not _is_phone(run, given, hints):
            yield _span(run.start, given)


def _may_have_shape(run: DigitRun, start: int) -> bool:
    """Return whether the word at `start` may be an id with letters: few digits follow six letters or are a birthday."""
    return not run.is_short or run.start - start >= _LETTERS_FIRST or run.digit_count >= _LETTERS_FIRST


def _may_be_digits_alone(run: DigitRun, given: str) -> bool:
    if not _MIN_DIGITS <= run.digit_count <= _MAX_DIGITS or is_word(run.text, run.start - 1):
        return False
    if is_word(run.text, run.end) or run.text[run.start - 1 : run.start] in _NOT_BEFORE:
        return False
    if _NONE.fullmatch(given) or _NOT_AFTER.match(run.text, run.end) or _OTHER_WORDS.search(run.before):
        return False
    # With a leading zero and separators it is a phone number, unless the text speaks of an identity.
    is_dialled = given.startswith("0") and not given.isdigit()
    return (not is_dialled and run.text[run.start - 1 : run.start] != "=") or bool(_ID_WORDS.search(run.before))


def _is_phone(run: DigitRun, given: str, hints: Hints) -> bool:
    """Return whether digits that may be an id or a phone number are a phone number, by the words before them."""
    if not _PHONE_WORDS.search(run.sentence) or _ID_WORDS.search(run.before):
        return False
    from worker.redaction.phone import is_valid

    return is_valid(given, hints.regions)


def _goes_on(text: str, end: int) -> bool:
    return is_word(text, end) or (text[end : end + 1] in {"-", "."} and text[end + 1 : end + 2].isdigit())


def _span(start: int, given: str) -> Span:
    return Span(start, start + len(given), "national_id", "".join(filter(str.isalnum, given)).upper())


def _is_valid(name: str, given: str) -> bool:
    return bool(_module(name).is_valid(given))


@cache
def _module(name: str) -> Any:
    return import_module(f"stdnum.{name}")
