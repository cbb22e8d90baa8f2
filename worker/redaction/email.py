"""Finds e-mail addresses, also international, quoted and obfuscated ones: `anna [at] example [dot] com`."""

import re
from collections.abc import Iterator

from worker.redaction.kinds import Span

_LATIN = r"A-Za-z0-9À-ÖØ-öø-ɏ\u1e00-\u1eff"
_WORD = r"\w\u0300-\u036f\u0900-\u0dff\u0e00-\u0e7f"
"""Letters, digits, and the combining marks of Indian scripts and of Thai."""
# Chinese and Thai have no spaces, so only the list of top-level domains tells where an address ends.
_ENDING = (
    r"(?:xn--[A-Za-z0-9-]{2,59}+|[A-Za-z]{2,24}+|公司|中国|中國|香港|台湾|台灣|网络|网址|在线|中文网|集团|商店|ไทย|한국|닷컴"
    r"|[\u0370-\u03ff]{2,20}+|[\u0400-\u04ff]{2,20}+|[\u0590-\u05ff]{2,20}+|[\u0600-\u06ff]{2,20}+|[\u0900-\u097f]{2,20}+"
    r"|[\u0980-\u0dff]{2,20}+|[\u10a0-\u10ff]{2,20}+)"
)
_DOMAIN = re.compile(rf"@(?:[{_WORD}](?:[{_WORD}-]{{0,62}}[{_WORD}])?\.){{1,8}}{_ENDING}")
_AT_ADDRESS = re.compile(r"@\[(?:IPv6:)?[0-9a-fA-F.:]{3,45}\]")
_LOCAL_LATIN = re.compile(rf"[{_LATIN}.+_%&'-]{{1,64}}")
_LOCAL_OTHER = re.compile(rf"(?:[^\W{_LATIN}]|[{_WORD}0-9.+_-](?<![A-Za-z])){{1,64}}")
_LOCAL_QUOTED = re.compile(r'"(?:[^"\\\x00\n]|"(?=\\)|\\){1,64}"')
_TRIMMED = ".-'%&+"
_SPACELESS = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")
_GENERIC = {"com", "net", "org", "edu", "gov"}
_COMMON = (
    "com|net|org|edu|gov|io|co|info|biz|me|app|dev|eu|de|fr|es|it|uk|ru|jp|cn|br|in|nl|pl|ch|at|se|no|fi|dk"
    "|pt|tr|ir|us|ca|au"
)
_ENDS_COMMONLY = re.compile(rf"(?i)\.(?:{_COMMON}|[a-z]{{2}})$")
_DOT = r"(?: ?[\[({]\s?(?:dot|\.)\s?[\])}] ?| dot | \. |\.)"
_SPELT = re.compile(
    rf"(?i:(?: ?[\[({{<] ?(?:at|@) ?[\])}}>] ?| @ )[{_LATIN}-]{{1,63}}+(?:{_DOT}[{_LATIN}-]{{1,63}}){{0,3}}?{_DOT}"
    rf"(?:{_COMMON})\b| at [{_LATIN}-]{{1,63}}+(?: dot [{_LATIN}-]{{1,63}}){{0,3}}? dot (?:{_COMMON})\b)"
)
_AT_IN_BRACKETS = re.compile(r"(?i)[\[({<] ?(?:at|@) ?[\])}>]")
_SPELLING = re.compile(r"(?i)\s?[\[({<]\s?(at|dot|@|\.)\s?[\])}>]\s?|\s(at|dot|@|\.)\s")


def find_emails(text: str) -> Iterator[Span]:
    """Yield the e-mail addresses in a text in normal form (`worker.redaction.text`)."""
    if "@" in text:
        for found in _DOMAIN.finditer(text):
            if start := _local_start(text, found.start()):
                domain = _without_next_sentence(found[0])
                if _is_mention(text[found.start() - 1], domain):
                    continue
                end = found.start() + len(domain)
                yield Span(start - 1, end, "email", text[start - 1 : end].casefold())
        for found in _AT_ADDRESS.finditer(text) if "@[" in text else ():
            if start := _local_start(text, found.start()):
                yield Span(start - 1, found.end(), "email", text[start - 1 : found.end()].casefold())
    if _may_be_spelt(text):
        yield from _spelt(text)


def _may_be_spelt(text: str) -> bool:
    """Return whether a text may contain an obfuscated address. Most texts do not, and the full search is slow."""
    if " @ " in text or (any(sign in text for sign in "[({<") and _AT_IN_BRACKETS.search(text)):
        return True
    lower = text.lower()
    return " at " in lower and " dot " in lower


def _local_start(text: str, at: int) -> int:
    """Return the position after the first character of the local part that ends before `at`; 0 if there is none."""
    before = text[max(0, at - 66) : at][::-1]
    if not before:
        return 0
    if before[0] == '"':
        found = _LOCAL_QUOTED.match(before)
    else:
        found = _LOCAL_LATIN.match(before)
        if found is None or not found[0].strip(_TRIMMED):
            found = _LOCAL_OTHER.match(before)
    if found is None:
        return 0
    local = found[0] if before[0] == '"' else found[0].rstrip(_TRIMMED)
    return at - len(local) + 1 if local else 0


def _is_mention(before: str, domain: str) -> bool:
    """Return whether this is a mention after a word of a script without spaces: `问@anna.weber` is no address."""
    return bool(_SPACELESS.match(before)) and domain.isascii() and not _ENDS_COMMONLY.search(domain)


def _without_next_sentence(domain: str) -> str:
    """Cut off the sentence that follows an address without a space: `@example.com.Thanks`."""
    labels = domain.split(".")
    for place in range(1, len(labels) - 1):
        following = labels[place + 1]
        if labels[place].lower() in _GENERIC and len(following) != 2:
            return ".".join(labels[: place + 1])
    last = labels[-1]
    if len(labels) > 2 and last.istitle() and last.isascii() and domain[: -len(last)].islower():
        return ".".join(labels[:-1])
    return domain


def _spelt(text: str) -> Iterator[Span]:
    """Yield addresses such as `anna [at] example [dot] com`."""
    for found in _SPELT.finditer(text):
        if start := _local_start(text, found.start()):
            plain = _SPELLING.sub(lambda each: _sign(each[1] or each[2]), text[start - 1 : found.end()])
            yield Span(start - 1, found.end(), "email", plain.casefold())


def _sign(spelling: str) -> str:
    return {"at": "@", "dot": "."}.get(spelling.lower(), spelling)
