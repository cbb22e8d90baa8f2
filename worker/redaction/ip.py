"""Finds IPv4 and IPv6 addresses. Version numbers and times that look like addresses are left alone."""

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from worker.redaction.kinds import Span
from worker.redaction.numbers import is_joined, is_word
from worker.redaction.words import words

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_V4 = re.compile(r"[0-9][0-9]{0,2}(?:\.[0-9]{1,3}){3}(?![0-9]|\.[0-9])")
_MIDDLE_OF_V4 = re.compile(r"\.[0-9]{1,3}\.")
_V4_WHOLE = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_V6 = re.compile(r":[0-9a-fA-F]{0,4}:[0-9a-fA-F:]*+(?:\.[0-9]{1,3}){0,3}")
_HEX = frozenset("0123456789abcdefABCDEF")
_VERSION_WORDS = words("version_words")
_VERSION_SIGN = re.compile(r"(?i)(?:\bv[ .:]*|\b[vx]|(?<!/)/|-|==)\Z")
_NO_VERSION_SIGN = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}[-/]\Z|://\S*/\Z")
"""The second address of a range, and one in the path of a URL."""
_ADDRESS_WORDS = words("ip_words")
_CONTEXT = 32
_LINE_END = re.compile(r"[\n\x00]|[.!?\u3002\uff01\uff1f]\s")
_LOW = 32
"""Four numbers that are all lower than this, such as 4.2.11.0, count as a version number."""


def find_ips(text: str) -> Iterator[Span]:
    """Yield the addresses in a text in normal form, except loopback and unspecified ones."""
    if _MIDDLE_OF_V4.search(text):
        for found in _V4.finditer(text):
            start, end = found.span()
            if is_joined(text, start - 1) or text[start - 1 : start] == "." or is_word(text, end):
                continue
            if _V4_WHOLE.fullmatch(found[0]):
                address = IPv4Address(found[0])
                if not (address.is_loopback or address.is_unspecified or _is_version(text, start, address)):
                    yield Span(start, end, "ip", str(address))
    if ":" in text:
        yield from _find_v6(text)


def _is_version(text: str, start: int, address: IPv4Address) -> bool:
    before = _LINE_END.split(text[max(0, start - _CONTEXT) : start].lower())[-1]
    is_dash = before.endswith("-") and not is_word(before, len(before) - 2)
    if _VERSION_SIGN.search(before) and not (is_dash or _NO_VERSION_SIGN.search(before)):
        return True
    if _ADDRESS_WORDS.search(before):
        return False
    is_low = max(address.packed) < _LOW and not address.is_private
    if is_low:
        return True
    found = _VERSION_WORDS.last(before)
    return found is not None and not any(map(str.isdigit, before[found.end() :]))


def _find_v6(text: str) -> Iterator[Span]:
    for found in _V6.finditer(text):
        start, end = found.span()
        while start > found.start() - 4 and text[start - 1 : start] in _HEX:
            start -= 1
        given = text[start:end]
        if is_joined(text, start - 1) or (given.startswith(":") and not given.startswith("::")):
            start = found.start() + 1  # The first colon is that of `IP:`.
            given = text[start:end]
        if given.endswith(":") and not given.endswith("::"):
            given = given[:-1]
        whole = "::" in given or given.count(":") == 7
        digits = sum(each.isalnum() for each in given)
        if not whole or digits < 4 or is_joined(text, start - 1) or is_word(text, end):
            continue
        try:
            address = IPv6Address(given)
        except AddressValueError:
            continue
        yield Span(start, start + len(given), "ip", address.compressed)
