"""Reads JSON from callers at a cost that is linear in its size.

An input that is too large is refused before it is parsed.

Parsed values take far more memory than their text: an empty array takes 3 bytes of JSON and 70 of memory. An input may
therefore contain only as many values as a valid request can, which is checked by counting commas and brackets.
"""

from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json

from worker.domain.validation import MAX_REQUEST_ID, json_type
from worker.errors import InvalidRequest
from worker.settings import Settings

_OTHER_VALUES = 100
"""How many commas and brackets a valid request has outside of its arrays and texts, rounded up."""


def read_json(raw: bytes, limits: Settings, max_bytes: int, field: str) -> Any:
    """Parse JSON from a caller, after checking that it is not too large.

    Args:
        raw: The text, in UTF-8.
        limits: The settings that limit a request. They determine how many values a valid request can contain.
        max_bytes: Maximum size of `raw`.
        field: The name of the input in an error, such as `body`.

    Returns:
        The value: objects, arrays, strings, numbers, booleans and None.

    Raises:
        InvalidRequest: The input is too large, has too many values, or is not JSON in UTF-8.
    """
    if len(raw) > max_bytes:
        raise _fault(field, f"should have at most {max_bytes} bytes, but has {len(raw)}")
    values = sum(raw.count(character) for character in (b",", b"[", b"{"))
    if values > _max_values(limits):
        raise _fault(field, f"contains {values} commas and brackets; a valid request has at most {_max_values(limits)}")
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        raise _fault(field, f"should be JSON in UTF-8, but byte {error.start} is not valid UTF-8") from None
    try:
        return from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise _fault(field, f"should be valid JSON: {error}") from None


def read_json_object(raw: bytes, limits: Settings, max_bytes: int, field: str) -> dict[str, Any]:
    """Parse a JSON object from a caller, as `read_json` does. Raises InvalidRequest for any other JSON value, too."""
    value = read_json(raw, limits, max_bytes, field)
    if not isinstance(value, dict):
        raise _fault(field, f"should be a JSON object, not {json_type(value)}")
    return value


def check_size(value: Any, limits: Settings, max_bytes: int, field: str) -> None:
    """Check that a value that is already parsed is within the limits of `read_json`. Stops as soon as one is exceeded.

    Raises InvalidRequest, which names `field`.
    """
    values, size = _max_values(limits), max_bytes
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str | bytes):
            size -= len(item)
        elif isinstance(item, Mapping):
            values -= len(item) + 1
            if values >= 0:
                stack.extend(item)
                stack.extend(item.values())
        elif isinstance(item, list | tuple):
            values -= len(item) + 1
            if values >= 0:
                stack.extend(item)
        if values < 0:
            raise _fault(field, f"contains too many values; a valid request has at most {_max_values(limits)}")
        if size < 0:
            raise _fault(field, f"should have at most {max_bytes} bytes")


def _max_values(limits: Settings) -> int:
    """Return how many commas and brackets a valid request has at most. Its texts may consist of nothing else."""
    texts = (
        limits.max_notes_length + 2 * limits.max_label_length + limits.max_tags * limits.max_tag_length + MAX_REQUEST_ID
    )
    return limits.max_message_ids + limits.max_tags + texts + _OTHER_VALUES


def _fault(field: str, message: str) -> InvalidRequest:
    return InvalidRequest([{"field": field, "message": message}])
