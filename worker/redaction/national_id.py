"""Finds national identity numbers whose check digits hold, by python-stdnum."""

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

from worker.redaction.kinds import Hints, Span
from worker.redaction.numbers import Run, is_word

# Numbers with letters in them, or with so many check digits that chance hardly makes one: looked for everywhere.
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
    ("us.ssn", re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{4}")),
    ("br.cpf", re.compile(r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}")),
    ("cl.rut", re.compile(r"[0-9]{1,2}\.[0-9]{3}\.[0-9]{3}-[0-9K]", re.IGNORECASE)),
)
_SHAPES = re.compile("|".join(f"(?:{pattern.pattern})" for _, pattern in _EVERYWHERE), re.IGNORECASE)
"""All at once, because most runs have none of these shapes."""
# Digits alone, of which every tenth or hundredth number would pass: looked for in the regions only.
_IN_REGION = {
    "AT": ("at.vnr",),
    "BE": ("be.nn",),
    "BG": ("bg.egn",),
    "BR": ("br.cpf",),
    "CA": ("ca.sin",),
    "CZ": ("cz.rc",),
    "DE": ("de.idnr",),
    "DK": ("dk.cpr",),
    "EE": ("ee.ik",),
    "GB": ("gb.nhs",),
    "GR": ("gr.amka",),
    "HR": ("hr.oib",),
    "IL": ("il.idnr",),
    "IN": ("in_.aadhaar",),
    "KR": ("kr.rrn",),
    "LT": ("lt.asmens",),
    "LV": ("lv.pk",),
    "NL": ("nl.bsn",),
    "NO": ("no.fodselsnummer",),
    "PL": ("pl.pesel",),
    "PT": ("pt.nif",),
    "RO": ("ro.cnp",),
    "SE": ("se.personnummer",),
    "TH": ("th.pin",),
    "TR": ("tr.tckimlik",),
    "UA": ("ua.rntrc",),
    "ZA": ("za.idnr",),
}
_MIN_DIGITS, _MAX_DIGITS = 5, 22
_REACH = 8
"""Letters before the first digits: an Italian number begins with six."""
_OTHER_WORDS = re.compile(
    r"\b(?:orders?|invoices?|tickets?|tracking|booking|bestell\w*|rechnung\w*|pedidos?)\b"
    r"|заказ|订单|注文|주문|طلب|سفارش|הזמנה"
)


def find_national_ids(run: Run, hints: Hints) -> Iterator[Span]:
    """Yield the number that contains a run, or that the run is."""
    text = run.text
    start = run.start
    while start > max(0, run.start - _REACH) and is_word(text, start - 1):
        start -= 1
    if not is_word(text, start - 1) and _SHAPES.match(text, start):
        for name, pattern in _EVERYWHERE:
            found = pattern.match(text, start)
            if found and not is_word(text, found.end()) and found.end() > run.start and _is_valid(name, found[0]):
                yield _span(start, found[0])
                return
    given = text[run.start : run.end]
    if _may_be_digits_alone(run, given):
        names = [name for region in hints.regions for name in _IN_REGION.get(region, ())]
        if any(_is_valid(name, given) for name in names):
            yield _span(run.start, given)


def _may_be_digits_alone(run: Run, given: str) -> bool:
    if not _MIN_DIGITS <= run.digit_count <= _MAX_DIGITS or is_word(run.text, run.start - 1):
        return False
    if is_word(run.text, run.end) or run.text[run.start - 1 : run.start] in {"#", "+", "-"}:
        return False
    # With a leading zero and separators it is a phone number.
    return not (given.startswith("0") and not given.isdigit()) and not _OTHER_WORDS.search(run.before)


def _span(start: int, given: str) -> Span:
    return Span(start, start + len(given), "national_id", "".join(filter(str.isalnum, given)).upper())


def _is_valid(name: str, given: str) -> bool:
    return bool(_module(name).is_valid(given))


@cache
def _module(name: str) -> Any:
    return import_module(f"stdnum.{name}")
