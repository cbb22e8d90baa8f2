"""Finds international bank account numbers (IBANs) by the length in their country and by the check digits."""

import re
from collections.abc import Iterator
from functools import cache

from stdnum import numdb

from worker.redaction.kinds import Span
from worker.redaction.numbers import DigitRun, is_word

_FIELD = re.compile(r"(\d+)!?([nac])")
_CLASS = {"n": "[0-9]", "a": "[A-Za-z]", "c": "[0-9A-Za-z]"}
_BETWEEN = r"[ .\-]{0,2}"
_UNREGISTERED = {
    **dict.fromkeys(("AO", "CV", "MZ", "ST"), "21!n"),
    **dict.fromkeys(("BF", "BJ", "CI", "ML", "NE", "SN", "TG"), "2!c22!n"),
    **dict.fromkeys(("CF", "CG", "CM", "GA", "GQ", "KM", "TD"), "23!n"),
    "DZ": "22!n",
    "IR": "22!n",
    "MA": "24!n",
    "MG": "23!n",
}
"""The pattern after the check digits, for countries that use IBANs but are not in the registry."""


def find_ibans(run: DigitRun) -> Iterator[Span]:
    """Yield the IBAN, if any, whose check digits are the first two digits of the run, after the country's letters."""
    text = run.text
    start = run.start - 2
    if start > 0 and text[run.start - 1] == " ":
        start -= 1
    country = text[start : start + 2] if start >= 0 else ""
    if len(country) < 2 or not (country.isascii() and country.isalpha()) or is_word(text, start - 1):
        return
    if not (pattern := _pattern(country.upper())) or not (found := pattern.match(text, start)):
        return
    plain = "".join(filter(str.isalnum, found[0])).upper()
    if int("".join(str(int(each, 36)) for each in plain[4:] + plain[:4])) % 97 == 1:
        yield Span(found.start(), found.end(), "iban", plain)


@cache
def _pattern(country: str) -> re.Pattern[str] | None:
    """Return the pattern of a country's IBANs from the registry in python-stdnum; None if it has no such country."""
    (_, properties), *_ = numdb.get("iban").info(country)
    if not (layout := properties.get("bban") or _UNREGISTERED.get(country)):
        return None
    classes = [_CLASS[kind] for count, kind in _FIELD.findall(layout) for _ in range(int(count))]
    return re.compile(_BETWEEN.join([*country, "[0-9]", "[0-9]", *classes]) + "(?![0-9A-Za-z])", re.IGNORECASE)
