"""Faulty requests of about 1 MB in shapes that are costly to parse or to validate."""

import json
from collections.abc import Callable

ID = "6a0000000000000000000001"


def repeat(unit: str) -> str:
    """Returns about 1 MB of the unit, separated by commas."""
    return ",".join([unit] * (1_000_000 // (len(unit) + 1)))


def unknown_keys() -> str:
    return ",".join(f'"k{number:06d}":1' for number in range(90_000))


_FIELDS: dict[str, Callable[[], str]] = {
    "messageIds of numbers": lambda: f'"messageIds":[{repeat("1")}]',
    "tags of numbers": lambda: f'"tags":[{repeat("1")}]',
    "unknown keys": unknown_keys,
    "deep nesting": lambda: f'"tags":{"[" * 500_000}{"]" * 500_000}',
    "nesting repeated": lambda: f'"notes":[{repeat("[" * 150 + "]" * 150)}]',
    "huge string": lambda: f'"notes":"{repeat("é")}"',
    "huge key": lambda: f'"{"k" * 1_000_000}":1',
    "repeated keys": lambda: repeat('"tags":[1]'),
    "empty arrays": lambda: f'"messageIds":[{repeat("[]")}]',
    "empty objects": lambda: f'"tags":[{repeat("{}")}]',
    "huge number": lambda: f'"notes":{"9" * 1_000_000}',
    "valid ids": lambda: f'"messageIds":[{repeat(json.dumps(ID))}]',
    "truncated": lambda: f'"notes":"{"x" * 1_000_000}',
}

SHAPES = tuple(_FIELDS)
UNDECODABLE = ("deep nesting", "huge number", "truncated")
"""Shapes that Python's own JSON decoder refuses."""


def faulty_request(shape: str) -> str:
    """Returns the JSON of a faulty request."""
    return f'{{"organizationId":"{ID}","contactId":"{ID}",{_FIELDS[shape]()}}}'
