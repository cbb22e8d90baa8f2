"""Rows, their encoding as lines, and the error for a snapshot that has no row. Pure."""

import json
from typing import Any

Row = dict[str, Any]
"""A row as JSON values. A row for Parquet has a `datetime` as timestamp."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False).encode
_LINE_ENDS = {end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
"""JSON allows these in a string, but readers that split text with `str.splitlines` would break the row there."""


class Skipped(Exception):
    """The format cannot represent the snapshot, which is therefore left out and counted.

    Args:
        reason: A snake_case code, by which skipped snapshots are counted, such as `no_assistant_turn`.
        detail: A sentence that explains it, without text of the conversation.
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
    return line_of(_encode(row))


def line_of(text: str) -> bytes:
    """Return compact JSON as one line. Raises Skipped if a text is not valid Unicode."""
    if not text.isascii():
        for end, escaped in _LINE_ENDS.items():
            text = text.replace(end, escaped)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError as error:
        raise invalid_text() from error


def invalid_text() -> Skipped:
    """Return the error for text that UTF-8 cannot represent."""
    return Skipped("invalid_text", "A text contains half of a surrogate pair, which UTF-8 cannot represent.")


def check_text(text: str) -> None:
    """Raise Skipped if UTF-8 cannot represent the text."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise invalid_text() from error
