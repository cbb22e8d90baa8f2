"""Finds secrets in URLs: passwords, values of parameters that grant access, and tokens in paths."""

import re
from collections.abc import Iterator

from worker.redaction.kinds import Span

# `page_token` is no secret: it names the next page of a list.
_NAMES = (
    "(?!(?:next|page|prev|continuation)[_-]?)[a-z0-9_.-]{0,40}?"
    "(?:token|secret|signature|credential|passw(?:or)?d|passcode|session[_-]?id|sessid|api[_-]?key)"
    "|(?:[a-z0-9_.-]{0,40}?[_-])?(?:sig|key|jwt|otp|pwd|pass|pw|session|sid|auth|hmac|nonce)"
    "|(?:id|access|auth|api)key|code|ticket|hash"
)
# Secrets are ASCII, and the text around a link may follow it without a space.
_END = r"[!$%(+./0-9:=?@A-Z\[\\^_a-z{|~-]"
_PARAMETER = re.compile(rf"[?&#;](?i:{_NAMES})=({_END}{{6,}}+)")
_PASSWORD = re.compile(r"://[^\s:/@?#\x00\"'<>]{0,256}+:([^\s/@?#\x00\"'<>]{1,256}+)@")
_URL = re.compile(r"://([!#$%&()+,./0-9:;=?@A-Z\[\]\\^_a-z{|}~-]{1,2000}+)")
_GIVES_ACCESS = re.compile(
    r"(?i)reset|verif|confirm|activat|invit|unsubscribe|magic|login|signin|auth|token|share|join"
)
_TOKEN = re.compile(r"[A-Za-z0-9_.~=-]{12,}")
_MIN_TOKEN, _MIN_MIXED, _MIN_WEAK = 12, 20, 12
_MIXED = re.compile(r"[A-Za-z0-9_]+")
_HEXADECIMAL = frozenset("abcdefABCDEFxX")
_MIN_BEYOND = 4
_JWT = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+")
_QUERY = re.compile("[?#]")
_PUBLIC = {"channel", "transactions", "tx", "address", "block", "commit"}
_WEAK = {"code", "hash", "key", "ticket"}
_TRAILING = ".,:;!?)]}"
_PLACEHOLDER = re.compile(r"\[[A-Z_]+_[0-9]+\]?")


def find_url_secrets(text: str) -> Iterator[Span]:
    """Yield the secrets in a text in normal form. The rest of each URL is not secret."""
    if "eyJ" in text:
        yield from (_span(each.start(), each[0]) for each in _JWT.finditer(text))
    if "=" in text:
        for found in _PARAMETER.finditer(text):
            if not _PLACEHOLDER.match(found[1]) and _is_random(found[1], found[0]):
                yield _span(found.start(1), found[1])
    if "://" in text:
        yield from (_span(each.start(1), each[1]) for each in _PASSWORD.finditer(text))
        for found in _URL.finditer(text):
            yield from _in_path(found.start(1), found[1])


def _in_path(start: int, url: str) -> Iterator[Span]:
    """Yield the tokens in the path of a URL. `url`: the text after `://`, which begins at `start`."""
    path = _QUERY.split(url, maxsplit=1)[0]
    host, *segments = path.split("/")
    place, before = start + len(host) + 1, ""
    for segment in segments:
        if len(segment) >= _MIN_TOKEN and _is_token(segment.rstrip(_TRAILING), before):
            yield _span(place, segment)
        before = segment
        place += len(segment) + 1


def _is_token(segment: str, before: str) -> bool:
    if before.lower() in _PUBLIC or segment.startswith("0x"):
        return False
    if len(segment) >= _MIN_MIXED and _MIXED.fullmatch(segment) and _is_mixed(segment):
        return True
    return bool(_GIVES_ACCESS.search(before) and _TOKEN.fullmatch(segment) and any(map(str.isdigit, segment)))


def _span(start: int, value: str) -> Span:
    value = value.rstrip(_TRAILING)
    return Span(start, start + len(value), "url_secret", value)


def _is_random(value: str, whole: str) -> bool:
    """Return whether a value looks random, unlike the ordinary words in `code=summer` and `hash=section`."""
    name = whole[1 : whole.index("=")].lower()
    weak = name in _WEAK
    return not weak or (len(value) >= _MIN_WEAK and any(map(str.isdigit, value)) and any(map(str.isalpha, value)))


def _is_mixed(segment: str) -> bool:
    """Return whether small and capital letters and digits alternate as in a token, not as in a title or a hash."""
    kinds = {"d" if each.isdigit() else "u" if each.isupper() else "l" for each in segment}
    beyond_hexadecimal = sum(each.isalpha() and each not in _HEXADECIMAL for each in segment)
    return len(kinds) == 3 and beyond_hexadecimal >= _MIN_BEYOND and sum(map(str.isdigit, segment)) >= 2
