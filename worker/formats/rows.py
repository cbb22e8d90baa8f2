"""Rows, their lines, and the reason for which a snapshot has none. Pure."""

import json
import re
from typing import Any

Row = dict[str, Any]
"""A row as JSON values. A row for Parquet has a `datetime` as timestamp."""

_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
"""JSON allows these in a string, but readers that split text with `str.splitlines` would break the row there."""


class Skipped(Exception):
    """The format cannot represent the snapshot, which is therefore left out and counted.

    `reason` is a snake_case code that is counted; `detail` is a sentence without text of the conversation.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(reason, detail)

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def line(row: Row) -> bytes:
    """Return a row as one line of JSON Lines: UTF-8, compact, keys in the row's order, with its line feed.

    Raises Skipped if a text is not valid Unicode.
    """
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if not text.isascii():
        text = _LINE_ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError as error:
        raise invalid_text() from error


def invalid_text() -> Skipped:
    """The reason for a text that UTF-8 cannot represent."""
    return Skipped("invalid_text", "A text contains half of a surrogate pair, which UTF-8 cannot represent.")


def check_text(text: str) -> None:
    """Raises Skipped if UTF-8 cannot represent the text."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise invalid_text() from error
