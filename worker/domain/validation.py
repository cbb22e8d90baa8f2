"""Checks of what a caller sends that need neither a database's types nor settings: the Python client has them too.

Their messages name the field's fault and what is allowed, never the text.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from worker.errors import InvalidRequest

DERIVED_PREFIXES = ("stream:", "task:", "resolved:", "all:")
"""Beginnings of the request ids that are derived, so that reading one entry twice is one request."""

MAX_REQUEST_ID = 200
LINE_BREAKS = "\n\r\t"
CONTROL = r"\u0000-\u001f\u007f-\u009f"
LINE = rf"^[^{CONTROL}]*$"
LINES = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$"
NOT_BLANK = rf"^[^{CONTROL}]*[^{CONTROL}\s][^{CONTROL}]*$"
"""What `check_text` takes, as patterns of JSON Schema: of one line, of several, of one that is not blank."""
_FAULTS_NAMED = 20
"""Faults that one error names at most: 10,001 wrong tags are one mistake."""
_NAME_SHOWN = 100


def check_text(value: str, allowed: str = "") -> str:
    """Text without control characters, but for those in `allowed`."""
    if value.isascii() and value.isprintable():
        return value
    for character in value:
        kind = unicodedata.category(character)
        if kind == "Cs":
            raise ValueError("should be valid Unicode, it has a lone surrogate")
        if kind == "Cc" and character not in allowed:
            raise ValueError(f"should have no control characters, it has U+{ord(character):04X}")
    return value


def check_length(value: str, most: int | None) -> str:
    """Text of at most so many characters."""
    if most is not None and len(value) > most:
        raise ValueError(f"should have at most {most} characters, it has {len(value)}")
    return value


def check_tags(value: list[str], most: int | None = None, longest: int | None = None) -> list[str]:
    """Tags, none of them blank."""
    if most is not None and len(value) > most:
        raise ValueError(f"should be at most {most} tags, there are {len(value)}")
    for number, tag in enumerate(value):
        if not tag.strip():
            raise ValueError(f"tag {number} should not be blank")
        if longest is not None and len(tag) > longest:
            raise ValueError(f"tag {number} should have at most {longest} characters, it has {len(tag)}")
        check_text(tag)
    return value


def check_message_ids(value: list[Any], most: int | None = None) -> list[Any]:
    """Ids, each once."""
    if not value:
        raise ValueError("should name at least one message, or be left out for all of them")
    if most is not None and len(value) > most:
        raise ValueError(f"should be at most {most} ids, there are {len(value)}")
    seen: set[Any] = set()
    for each in value:
        if each in seen:
            raise ValueError(f"should name each message once, {each} is repeated")
        seen.add(each)
    return value


def check_request_id(value: str, most: int = MAX_REQUEST_ID) -> str:
    """A caller's own request id: 1 to 200 characters, none of the prefixes of derived ones."""
    if not 1 <= len(value) <= most:
        raise ValueError(f"should have 1 to {most} characters, it has {len(value)}")
    if value.startswith(DERIVED_PREFIXES):
        raise ValueError(f"should not begin with {', '.join(DERIVED_PREFIXES)}: those are derived")
    if value != value.strip():
        raise ValueError("should not begin or end with white space")
    return check_text(value)


def json_type(value: Any) -> str:
    """What JSON calls the type of a value."""
    names = {type(None): "null", bool: "a boolean", str: "a string", list: "an array", tuple: "an array"}
    return names.get(type(value)) or ("a number" if isinstance(value, int | float) else "an object")


class CamelModel(BaseModel):
    """Fields are camelCase outside, strict, and no others are allowed."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        strict=True,
        frozen=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def read(cls, data: Any, limits: Any = None) -> Self:
        """The model of a JSON object; `limits` are the settings, for checks that ask for them.

        Raises InvalidRequest that lists each faulty field, what is wrong and what is allowed, never its text.
        """
        if not isinstance(data, Mapping):
            raise InvalidRequest([{"field": "body", "message": f"should be a JSON object, it is {json_type(data)}"}])
        try:
            return cls.model_validate(dict(data), context=limits, by_alias=True, by_name=False)
        except ValidationError as error:
            allowed = [field.alias or name for name, field in cls.model_fields.items()]
            raise InvalidRequest(faults(error, allowed)) from None


def faults(error: ValidationError, allowed: Sequence[str]) -> list[dict[str, str]]:
    """`[{field, message}]` of Pydantic's error, without the input. `allowed`: the fields that there are."""
    return [
        {"field": _named(each["loc"]), "message": _said(each["type"], each["msg"], allowed)}
        for each in error.errors(include_input=False, include_url=False)[:_FAULTS_NAMED]
    ]


def _named(location: Sequence[Any]) -> str:
    """A field's path. An unknown field's name is the caller's text, so it is escaped and cut."""
    path = ".".join(str(part) for part in location).encode("unicode_escape").decode()
    return path[:_NAME_SHOWN] or "body"


def _said(kind: str, message: str, allowed: Sequence[str]) -> str:
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return f"is not a field of this; allowed are {', '.join(allowed)}"
    if kind == "string_unicode":
        return "should be valid Unicode, it has a lone surrogate"
    return message.removeprefix("Value error, ").replace("Input should", "should").replace("a valid list", "an array")
