"""Rows, their encoding as lines, and the error for a snapshot that has no row. Pure."""

from typing import Any

from pydantic_core import PydanticSerializationError, to_json

Row = dict[str, Any]
"""A row as JSON values. A row for Parquet has a `datetime` as timestamp."""

_LINE_ENDS = {end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
"""JSON allows these in a string, but readers that split text with `str.splitlines` would break the row there."""
_LINE_ENDS_UTF8 = {end.encode(): escaped.encode() for end, escaped in _LINE_ENDS.items()}


class NotRepresentable(Exception):
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
    """Return a row without floats as one line of JSON Lines: UTF-8, compact, in the row's order, with its line feed.

    Raises NotRepresentable if a text is not valid Unicode.
    """
    try:
        data = to_json(row)  # three times as fast as `json`
    except PydanticSerializationError as error:
        raise invalid_text() from error
    if not data.isascii():
        for end, escaped in _LINE_ENDS_UTF8.items():
            data = data.replace(end, escaped)
    return data + b"\n"


def line_of(text: str) -> bytes:
    """Return compact JSON as one line. Raises NotRepresentable if a text is not valid Unicode."""
    if not text.isascii():
        for end, escaped in _LINE_ENDS.items():
            text = text.replace(end, escaped)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError as error:
        raise invalid_text() from error


def invalid_text() -> NotRepresentable:
    """Return the error for text that UTF-8 cannot represent."""
    return NotRepresentable("invalid_text", "A text contains half of a surrogate pair, which UTF-8 cannot represent.")


def check_text(text: str) -> None:
    """Raise NotRepresentable if UTF-8 cannot represent the text."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise invalid_text() from error
