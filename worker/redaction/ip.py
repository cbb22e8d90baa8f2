"""Finds IP addresses of both versions. Version numbers, times and names of programs that look alike are left alone."""

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from worker.redaction.kinds import Span
from worker.redaction.numbers import is_word

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_V4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9]|\.[0-9])")
_V4_WHOLE = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_V6 = re.compile(r":[0-9a-fA-F]{0,4}:[0-9a-fA-F:]*+(?:\.[0-9]{1,3}){0,3}")
_HEX = frozenset("0123456789abcdefABCDEF")
_VERSION = re.compile(
    r"(?i)(?:\b(?:v|ver|version|release|build|firmware|update|driver|ios|android|windows|chrome|section|chapter)[ .:]*"
    r"|[vx/@=]|-)$"
)


def find_ips(text: str) -> Iterator[Span]:
    """Yield the addresses in a normal text, but those that stand for the own machine or for none."""
    if "." in text:
        for found in _V4.finditer(text):
            start, end = found.span()
            before = text[start - 1 : start]
            if before.isalnum() or before in {".", "-"} or is_word(text, end):
                continue
            if _V4_WHOLE.fullmatch(found[0]) and not _VERSION.search(text[max(0, start - 12) : start]):
                address = IPv4Address(found[0])
                if not (address.is_loopback or address.is_unspecified):
                    yield Span(start, end, "ip", str(address))
    if ":" in text:
        yield from _find_v6(text)


def _find_v6(text: str) -> Iterator[Span]:
    for found in _V6.finditer(text):
        start, end = found.span()
        while start > found.start() - 4 and text[start - 1 : start] in _HEX:
            start -= 1
        given = text[start:end]
        if given.endswith(":") and not given.endswith("::"):
            given = given[:-1]
        whole = "::" in given or given.count(":") == 7
        digits = sum(each.isalnum() for each in given)
        if not whole or digits < 4 or text[start - 1 : start].isalnum() or text[end : end + 1].isalnum():
            continue
        try:
            address = IPv6Address(given)
        except AddressValueError:
            continue
        yield Span(start, start + len(given), "ip", address.compressed)
