"""Reads the words before and after a name that address or introduce a person, and titles."""

import re

from worker.redaction.words import is_latin, read_words

_CUES: dict[str, list[str]] = {}
"""Words that address or introduce a person, grouped by their last letters."""
for _cue in read_words("words_before_names"):
    _CUES.setdefault(_cue[-1], []).append(_cue)
_CUE_END = re.compile(r"\w(?=[^\w\x00]{0,4}$)")
_ALONE_BEFORE = re.compile(r"(?:^|[^\w])$")
ALONE_AFTER = re.compile(r"[^\S\n]*(?:$|[\n\x00]|[^\w\s])")
"""The end of a message or a sign, so that no word follows."""
_TITLES, _TITLES_IN_CAPITALS = (
    re.compile(rf"(?i)(?<!\w)(?:{'|'.join(listed)})\.? $")
    for listed in (read_words("titles"), read_words("titles") + read_words("titles_in_capitals"))
)
"""Titles before a family name. Those of the second list are also words before a word in lower case."""
_SIGNS = r"[^\w\s.,!?;:]{0,3}\s?"
"""A closing quote or bracket, or an emoji, may follow a name."""
TITLE_AFTER = re.compile(
    rf"{_SIGNS}(?:先生|女士|小姐|太太|老师|老師|经理|經理|老板|老闆|主任|医生|醫生|大夫|教授|律师|律師|师傅|師傅|同学|同學|阿姨|叔叔|[处院校店队]长"
    r"|总(?:监|裁|经理|工)?(?![\u3400-\u9fff])|总您?好|[哥姐](?![\u3400-\u9fff])|さん|様|さま|くん|ちゃん|氏|님|씨|군|양"
    r"|(?:과장|대리|부장|차장|사원|팀장|실장|이사|상무|전무|사장|회장|대표|원장|소장|점장|선생|교수|박사|기사|변호사)님"
    r"|(?<!\s)(?:과장|대리|부장|차장|팀장|실장|사장|회장|교수|박사))"
)
"""Titles after a name."""
_SAID_AFTER = re.compile(
    rf"{_SIGNS}(?:です|と申し|といい|より|宛|입니다|예요|이에요|이라고|라고|드림|올림|고객|앞으로|敬上)"
)
"""Text that follows a name of a single character when it is meant as a name."""
_CALLED_AFTER = re.compile(r"(?:就行|就好|就可以|即可|吧|呀|啊|哦|啦|的(?![\u3400-\u9fff]))")
"""Text that follows a name of a single Chinese character after words that introduce it."""
_FAMILIAR = re.compile(r"(?:^|[^\u3400-\u9fff])[小老阿]$")
_GREETED = re.compile(r"(?:您好|你好|您|啊|呀|哥|姐|辛苦|在吗|[^\S\n]*(?:$|[\n\x00\uff0c,。\uff01!\uff1f?\uff1a:、]))")
"""Around a Chinese family name among acquaintances: `小王`."""
_ADDRESS_SIGNS = frozenset("./@_")
_ADDRESS_GOES_ON = re.compile(r"\.\w|[/@_]")
_END = re.compile(r"[.!]?\s*(?:$|[\n\x00])")
_SMALL_WORD = re.compile(r" (?:i|you|we|he|she|it|they|the|this|that|be|not|a|an|have)\b")
HANGUL = re.compile(r"[\uac00-\ud7a3]")
CUE_REACH = 32
"""How many characters before a name are examined."""


def is_called(before: str) -> bool:
    """Return whether a text ends with words that address or introduce a person, such as `my name is`."""
    found = _CUE_END.search(before)
    if found is None:
        return False
    said = before[: found.end()].lower()
    starts = (len(said) - len(cue) for cue in _CUES.get(said[-1], ()) if said.endswith(cue))
    return any(start == 0 or not said[start - 1].isalnum() or not is_latin(said[start:]) for start in starts)


def stands_alone(text: str, before: str, end: int) -> bool:
    """Return whether a name of one character is set off from the words around it: `我叫明。`"""
    is_off = bool(_ALONE_BEFORE.search(before))
    if is_off and _SAID_AFTER.match(text, end):
        return True
    if _FAMILIAR.search(before) and _GREETED.match(text, end):
        return True
    # In Korean many words have one character and spaces around them.
    is_off = is_off and not HANGUL.match(text[end - 1])
    called = is_called(before)
    if called and _CALLED_AFTER.match(text, end):
        return True
    return (is_off or called) and bool(ALONE_AFTER.match(text, end))


def is_in_address(text: str, start: int, end: int) -> bool:
    """Return whether a word is part of a URL or a file's name: `www.rossi.example`."""
    return text[start - 1 : start] in _ADDRESS_SIGNS or bool(_ADDRESS_GOES_ON.match(text, end))


def continues_sentence(text: str, end: int) -> bool:
    """Return whether a lowercase word follows: `Hello. Will you come?` has no name, but `Hello Will, come` has one."""
    return bool(_SMALL_WORD.match(text[end : end + 8].lower()))


def is_end(text: str, end: int) -> bool:
    return bool(_END.match(text[end : end + 16]))


def has_title(before: str, *, is_capitalised: bool) -> bool:
    """Return whether a text ends with a title such as `Mr.`. Before a lowercase word, few titles count."""
    return bool((_TITLES_IN_CAPITALS if is_capitalised else _TITLES).search(before))
