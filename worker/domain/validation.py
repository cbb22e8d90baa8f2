"""Validates what callers send. It needs no database types and no settings, so that the Python client can use it too.

Error messages name the field, the fault and what is allowed, never the value. Lengths are checked before contents, and
validation stops after `MAX_FAULTS` faults, so that the cost of a faulty input is linear in its size.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from ..errors import InvalidRequest

DERIVED_PREFIXES = ("stream:", "task:", "resolved:", "all:")
"""Prefixes of derived request ids. A derived id makes an entry that is read twice the same request."""

MAX_REQUEST_ID = 200
LINE_BREAKS = "\n\r\t"
CONTROL = r"\u0000-\u001f\u007f-\u009f"
LINE = rf"^[^{CONTROL}]*$"
LINES = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$"
NOT_BLANK = rf"^[^{CONTROL}]*[^{CONTROL}\s][^{CONTROL}]*$"
"""JSON Schema patterns for what `check_text` accepts: a single line, several lines, a line that is not blank."""
MAX_FAULTS = 20
"""Maximum number of faults that one error names."""
_MAX_PATH_LENGTH = 100

_SUBJECT = re.compile(r"^(Input|String|List) should")
"""How Pydantic's messages begin. Ours continue the name of the field."""
_SURROGATES = r"\ud800-\udfff"
_FORBIDDEN = {
    "": re.compile(f"[{CONTROL}{_SURROGATES}]"),
    LINE_BREAKS: re.compile(rf"[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f{_SURROGATES}]"),
}


def check_text(value: str, allowed: str = "") -> str:
    """Return the text if its only control characters are those in `allowed` (none, or LINE_BREAKS).

    Raises ValueError.
    """
    if found := _FORBIDDEN[allowed].search(value):
        code = ord(found[0])
        if 0xD800 <= code <= 0xDFFF:
            raise ValueError("should be valid Unicode, but contains a lone surrogate")
        raise ValueError(f"should not contain control characters, but contains U+{code:04X}")
    return value


def check_length(value: str, limit: int | None) -> str:
    """Return the text if it has at most `limit` characters. Raises ValueError."""
    if limit is not None and len(value) > limit:
        raise ValueError(f"should have at most {limit} characters, but has {len(value)}")
    return value


def check_count(value: Any, limit: int, items: str) -> Any:
    """Return the value unless it is a list of more than `limit` items, which are not validated yet.

    Raises ValueError.
    """
    if isinstance(value, list) and len(value) > limit:
        raise ValueError(f"should have at most {limit} {items}, but has {len(value)}")
    return value


def check_tags(value: list[str], longest: int | None = None) -> list[str]:
    """Return the tags if none is blank or longer than `longest` characters. Raises ValueError."""
    for number, tag in enumerate(value):
        if longest is not None and len(tag) > longest:
            raise ValueError(f"tag {number} should have at most {longest} characters, but has {len(tag)}")
        if not tag.strip():
            raise ValueError(f"tag {number} should not be blank")
        check_text(tag)
    return value


def check_message_ids(value: list[Any]) -> list[Any]:
    """Return the ids if there is at least one and none is repeated. Raises ValueError."""
    if not value:
        raise ValueError("should name at least one message; omit the field to include all messages")
    seen: set[Any] = set()
    for message_id in value:
        if message_id in seen:
            raise ValueError(f"should name each message once, but repeats {message_id}")
        seen.add(message_id)
    return value


def check_request_id(value: str, limit: int = MAX_REQUEST_ID) -> str:
    """Return a caller's request id if it has up to `limit` characters and no reserved prefix. Raises ValueError."""
    if not 1 <= len(value) <= limit:
        raise ValueError(f"should have 1 to {limit} characters, but has {len(value)}")
    if value.startswith(DERIVED_PREFIXES):
        raise ValueError(f"should not begin with {', '.join(DERIVED_PREFIXES)}, which are reserved prefixes")
    if value != value.strip():
        raise ValueError("should not begin or end with white space")
    return check_text(value)


def json_type(value: Any) -> str:
    """Return JSON's name for the type of a value, with its article, such as `an array`."""
    names = {type(None): "null", bool: "a boolean", str: "a string", list: "an array", tuple: "an array"}
    return names.get(type(value)) or ("a number" if isinstance(value, int | float) else "an object")


class CamelModel(BaseModel):
    """A strict model whose fields are camelCase in JSON. Unknown fields are refused.

    Lists in a model need `Field(fail_fast=True)`; otherwise a long list of faulty items makes an error for each item.
    """

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
    def read(cls, data: Any, limits: Any = None, given: Mapping[str, Any] | None = None) -> Self:
        """Validate a JSON object and return the model.

        Args:
            data: The parsed JSON, with camelCase names.
            limits: The settings, for checks of lengths and counts. None: the checks that need no settings, or the
                defaults.
            given: Fields that the caller must not send because their values are known, for example from a token.

        Raises:
            InvalidRequest: Says for each faulty or unknown field what is wrong and what is allowed, but never its
                value. It names at most 20 faults.

        Example:
            SnapshotRequest.read({"contactId": contact}, settings(), given={"organizationId": organization})
        """
        if not isinstance(data, Mapping):
            raise InvalidRequest([{"field": "body", "message": f"should be a JSON object, not {json_type(data)}"}])
        given = given or {}
        names = _names_outside(cls)
        unknown: list[dict[str, str]] = []
        if data.keys() <= names.keys() - given.keys():
            # A strict model accepts no other mapping than a dict. It reads it and keeps only its values.
            known = data if isinstance(data, dict) and not given else {**data, **given}
        else:
            allowed = [name for name in names if name not in given]
            unknown = _unknown_fields(data, allowed)
            known = {**{name: data[name] for name in allowed if name in data}, **given}
        try:
            model = cls.model_validate(known, context=limits, by_alias=True, by_name=False)
        except ValidationError as error:
            raise InvalidRequest((faults(error) + unknown)[:MAX_FAULTS]) from None
        if unknown:
            raise InvalidRequest(unknown)
        return model


@cache
def _names_outside(model: type[BaseModel]) -> dict[str, None]:
    """Return the names of a model's fields in JSON, in order. Cached, because `model_fields` is slow."""
    return dict.fromkeys(field.alias or name for name, field in model.model_fields.items())


def _unknown_fields(data: Mapping[Any, Any], allowed: Sequence[str]) -> list[dict[str, str]]:
    known = frozenset(allowed)
    unknown = islice((name for name in data if name not in known), MAX_FAULTS)
    message = f"unknown field; the allowed fields are {', '.join(allowed)}"
    return [{"field": _path([name]), "message": message} for name in unknown]


def faults(error: ValidationError) -> list[dict[str, str]]:
    """Return Pydantic's errors as `[{field, message}]`, without the input."""
    return [
        {"field": _path(fault["loc"]), "message": _message(fault["type"], fault["msg"])}
        for fault in error.errors(include_input=False, include_url=False)[:MAX_FAULTS]
    ]


def _path(location: Iterable[Any]) -> str:
    """Return a field's path. The name of an unknown field comes from the caller, so it is shortened and escaped."""
    path = ".".join(str(part)[:_MAX_PATH_LENGTH] for part in location)
    return path[:_MAX_PATH_LENGTH].encode("unicode_escape").decode()[:_MAX_PATH_LENGTH] or "body"


def _message(kind: str, message: str) -> str:
    if kind == "missing":
        return "is required"
    if kind == "string_unicode":
        return "should be valid Unicode, but contains a lone surrogate"
    message = _SUBJECT.sub("should", message.removeprefix("Value error, "))
    return message.replace("a valid list", "an array")
