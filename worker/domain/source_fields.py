"""Names of the platform's fields: what this service calls them, and where the platform stores them. Pure.

Reads rename on the server: a projection returns documents in this service's names, with translated values, so that
everything behind a read knows only one form. With the default settings no projection renames anything.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from worker.settings.field_mapping import FieldSettings, read_list, read_pairs

Document = dict[str, Any]
Expression = Any
"""An aggregation expression."""

NOT_FLAGGED = (None, False, 0, "", "false")
"""Values of a flag that mean that it is not set. A missing field means the same."""
OMITTED = "omitted"
"""A computed field that tells whether a message is omitted. The platform has no such field."""
_FLAG_TEXTS = {"true": True, "false": False}
RESOLVED: Document = {"$exists": True, "$nin": [False, None]}
"""The condition on `isResolved` if no list of values is set. It also matches values of a wrong type."""

MESSAGE = {
    "organizationId": "organization_field",
    "contactId": "message_contact_field",
    "conversationId": "message_conversation_field",
    "content": "message_text_field",
    "timestamp": "message_timestamp_field",
    "createdAt": None,
    "sender": "message_sender_field",
    "direction": "message_direction_field",
    "senderType": "message_sender_type_field",
    "isAIGenerated": "message_ai_field",
}
CONVERSATION = {
    "organizationId": "organization_field",
    "contactId": "conversation_contact_field",
    "isResolved": "conversation_resolved_field",
    "resolvedAt": "conversation_resolved_at_field",
    "resolvedBy": "conversation_resolved_by_field",
    "importedResolvedAt": None,
    "channelType": None,
}
CONTACT = {
    "organizationId": "organization_field",
    "firstName": "contact_first_name_field",
    "lastName": "contact_last_name_field",
    "phoneNumber": "contact_phone_field",
    "email": "contact_email_field",
    "channelType": None,
    "channelTypes": None,
}
USER = {
    "organizationId": "organization_field",
    "firstName": "user_first_name_field",
    "lastName": "user_last_name_field",
    "email": "user_email_field",
}
"""The fields that this service reads, each with the name of its setting, or None if it has none."""


@dataclass(frozen=True)
class CollectionFields:
    """The fields of one collection of the platform: where the platform stores each, and how its values translate.

    Example:
        fields.projection(["firstName", "email"])  # a projection that returns them under these names
    """

    paths: Mapping[str, str]
    """The stored path of each field."""
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """For fields whose values are translated, this service's value by stored value."""

    def __getitem__(self, name: str) -> str:
        return self.paths[name]

    def expression(self, name: str) -> Expression:
        """Return an expression for a field's value, translated. Values without a translation stay as they are."""
        path = f"${self.paths[name]}"
        if not (pairs := self.values.get(name)):
            return path
        branches = [{"case": _is_one_of(path, [stored]), "then": ours} for stored, ours in pairs.items()]
        return {"$switch": {"branches": branches, "default": path}}

    def projection(self, names: Iterable[str]) -> Document:
        """Return a projection that yields these fields under this service's names."""
        expressions = {name: self.expression(name) for name in names}
        return {name: 1 if each == f"${name}" else each for name, each in expressions.items()}

    def stored(self, document: Mapping[str, Any]) -> Document:
        """Return a document in this service's names as the platform would store it."""
        result: Document = {}
        for name, value in document.items():
            *levels, last = self.paths.get(name, name).split(".")
            place = result
            for level in levels:
                if not isinstance(place.get(level), dict):
                    place[level] = {}
                place = place[level]
            place[last] = self._stored_value(name, value)
        return result

    def _stored_value(self, name: str, value: Any) -> Any:
        alike = (stored for stored, ours in self.values.get(name, {}).items() if ours == value)
        return next((_forms(stored)[-1] for stored in alike), value)


@dataclass(frozen=True, slots=True)
class Flag:
    """A field that omits messages, and the values by which it does; if there are none, every value that is set does."""

    path: str
    values: tuple[str, ...] = ()

    @property
    def expression(self) -> Expression:
        """An expression for whether a message is omitted."""
        if self.values:
            return _is_one_of(f"${self.path}", self.values)
        return {"$not": [{"$in": [{"$ifNull": [f"${self.path}", None]}, list(NOT_FLAGGED)]}]}

    @property
    def condition(self) -> Document:
        """The filter for messages that are omitted."""
        if self.values:
            return {self.path: {"$in": [form for value in self.values for form in _forms(value)]}}
        return {self.path: {"$nin": list(NOT_FLAGGED)}}


@dataclass(frozen=True)
class MessageFields(CollectionFields):
    """The fields of messages."""

    flags: tuple[Flag, ...] = ()

    @cached_property
    def omitted(self) -> Expression | None:
        """An expression for whether a message is omitted, or None if the settings name no flag."""
        return {"$or": [flag.expression for flag in self.flags]} if self.flags else None

    @property
    def kept(self) -> Document:
        """The filter for messages that are not omitted. Empty if the settings name no flag."""
        return {"$nor": [flag.condition for flag in self.flags]} if self.flags else {}

    def projection(self, names: Iterable[str]) -> Document:
        """Return a projection that yields these fields and, if the settings name a flag, `omitted` (see OMITTED)."""
        flag = {} if self.omitted is None else {OMITTED: self.omitted}
        return {**super().projection(names), **flag}


@dataclass(frozen=True)
class ConversationFields(CollectionFields):
    """The fields of conversations."""

    resolved_values: tuple[str, ...] = ()
    """Values that mean resolved. If there are none, `true` means it."""

    @property
    def may_be_resolved(self) -> Document:
        """The condition on the stored field of `isResolved`."""
        if not self.resolved_values:
            return RESOLVED
        return {"$in": [form for value in self.resolved_values for form in _forms(value)]}

    def expression(self, name: str) -> Expression:
        """Return an expression for a field's value: a boolean for `isResolved` if the settings name its values."""
        if name == "isResolved" and self.resolved_values:
            return _is_one_of(f"${self.paths[name]}", self.resolved_values)
        return super().expression(name)

    def _stored_value(self, name: str, value: Any) -> Any:
        if name == "isResolved" and value is True and self.resolved_values:
            return _forms(self.resolved_values[0])[-1]
        return super()._stored_value(name, value)


class SourceFields:
    """The fields of all four collections, as the settings name them."""

    def __init__(self, settings: FieldSettings) -> None:
        flags = (
            (settings.message_deleted_field, settings.message_deleted_values),
            (settings.message_internal_field, settings.message_internal_values),
        )
        pairs = {
            "sender": settings.message_sender_values,
            "direction": settings.message_direction_values,
            "senderType": settings.message_sender_type_values,
        }
        self.message = MessageFields(
            _paths(MESSAGE, settings),
            {name: read_pairs(text) for name, text in pairs.items() if text},
            tuple(Flag(path, _listed(values)) for path, values in flags if path),
        )
        self.conversation = ConversationFields(
            _paths(CONVERSATION, settings), resolved_values=_listed(settings.conversation_resolved_values)
        )
        self.contact = CollectionFields(_paths(CONTACT, settings))
        self.user = CollectionFields(_paths(USER, settings))


def _paths(fields: Mapping[str, str | None], settings: FieldSettings) -> dict[str, str]:
    return {name: getattr(settings, setting) if setting else name for name, setting in fields.items()}


def _listed(values: str | None) -> tuple[str, ...]:
    return tuple(read_list(values)) if values else ()


def _is_one_of(path: str, values: Iterable[str]) -> Expression:
    return {"$in": [path, {"$literal": [form for value in values for form in _forms(value)]}]}


def _forms(value: str) -> list[Any]:
    """Return the stored values for a value in the settings: the text, and the boolean or number that it spells."""
    if value in _FLAG_TEXTS:
        return [value, _FLAG_TEXTS[value]]
    return [value, int(value)] if value.lstrip("-").isdecimal() and len(value) < 10 else [value]
