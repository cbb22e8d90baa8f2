"""Ids in the platform's documents: ObjectIds, which some documents store as text of 24 hex digits."""

from collections.abc import Iterable, Mapping
from typing import Any

from bson import ObjectId

StoredId = ObjectId | str


def stored_forms(ids: Iterable[ObjectId]) -> list[StoredId]:
    """Return every form in which these ids may be stored."""
    forms: list[StoredId] = []
    for key in ids:
        forms += [key, *text_forms(key)]
    return forms


def text_forms(key: ObjectId) -> set[str]:
    """Return an id as text, in lower and in upper case."""
    text = str(key)
    return {text, text.upper()}


def id_of(field: str) -> dict[str, Any]:
    """Return an aggregation expression for the value of a field, in which an id stored as text becomes an ObjectId."""
    return {"$convert": {"input": field, "to": "objectId", "onError": field, "onNull": None}}


def read_id(value: Any) -> Any:
    """Return the ObjectId that text of 24 hex digits stands for, and any other value as it is.

    Objects, arrays and other values that cannot be in a set become text, which is not equal to any id.
    """
    if isinstance(value, str) and ObjectId.is_valid(value):
        return ObjectId(value)
    try:
        hash(value)
    except TypeError:
        return f"{type(value).__name__} {value}"
    return value


def with_ids(document: Mapping[str, Any], *fields: str) -> dict[str, Any]:
    """Return a copy of the document in which ids that these fields store as text are ObjectIds."""
    return {**document, **{name: read_id(document[name]) for name in fields if name in document}}
