"""Redacts a snapshot: its messages, and the fields that people fill in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from worker.redaction.redactor import Part, Redactor, Replacement

Message = Mapping[str, Any]

_TEXTS = (
    ("notes", None),
    ("customerName", "name"),
    ("customerPhone", "phone"),
    ("customerEmail", "email"),
    ("tags", None),
    ("quality", None),
    ("category", None),
)
"""Fields in the order in which placeholders are numbered, after the messages; and the kind that the whole field is."""
_OF_MESSAGE = ("content", "sender", "senderType")
_USUAL = frozenset({"", "contact", "user", "CONTACT", "HUMAN", "AI", "SYSTEM"})


class Change(NamedTuple):
    """A text that is changed, for people who look at what a policy does."""

    place: str
    """Such as `messages[3].content`."""
    before: str
    after: str
    replacements: Sequence[Replacement]


@dataclass(frozen=True, slots=True)
class RedactedSnapshot:
    """What changes in a snapshot. Everything else stays as it is."""

    messages: dict[int, dict[str, Any]]
    """The messages that have to change, by their place."""
    fields: dict[str, Any]
    """The fields that have to change."""
    counts: dict[str, int]
    changes: list[Change]


def redact_snapshot(
    redactor: Redactor, messages: Sequence[Message], fields: Mapping[str, Any], people: Sequence[tuple[str, ...]] = ()
) -> RedactedSnapshot:
    """Redact the messages of a snapshot and the fields that people fill in.

    Args:
        redactor: Says what is looked for.
        messages: The messages in the form that a snapshot stores: `content`, `sender` and `senderType` are redacted.
        fields: `notes`, `tags`, `quality`, `category`, `customerName`, `customerPhone` and `customerEmail`, as far as
            there are any. Values that are no text are left alone.
        people: The names of the contact, then of the agents, each as first and last name.

    Returns:
        The messages and fields that change, and the number of replacements by kind.
    """
    places: list[tuple[str, int | None]] = []
    parts: list[Part] = []
    known: dict[str, Part] = {}
    for number, message in enumerate(messages):
        for name in _OF_MESSAGE:
            value = message.get(name)
            # A bson.Code is a text, but cannot be hashed.
            if isinstance(value, str) and (text := str(value)) not in _USUAL:
                places.append((name, number))
                parts.append(known.get(text) or known.setdefault(text, Part(text)))
    for name, whole in _TEXTS:
        value = fields.get(name)
        for place, text in [(None, value)] if isinstance(value, str) else _listed(value):
            places.append((name, place))
            parts.append(Part(str(text), whole))
    phone = fields.get("customerPhone")
    redacted = redactor(parts, people, phone if isinstance(phone, str) else None)
    if not redacted.is_changed:
        return RedactedSnapshot({}, {}, {}, [])
    return _collect(messages, fields, places, parts, redacted.texts, redacted.replacements, redacted.counts)


def redact_document(
    redactor: Redactor, document: Mapping[str, Any], agents: Sequence[tuple[str, ...]] = ()
) -> tuple[Mapping[str, Any], dict[str, int]]:
    """Redact a stored snapshot, for an export.

    Args:
        redactor: Says what is looked for.
        document: The snapshot as PyMongo returns it. It is not changed.
        agents: The names of the platform's users. The customer's name is in the snapshot itself.

    Returns:
        The document with its fields in the same order, and the number of replacements by kind.
    """
    messages = document.get("messages")
    listed = messages if isinstance(messages, list) and all(isinstance(each, Mapping) for each in messages) else []
    name = document.get("customerName")
    people = [tuple(name.split(" ", 1))] if isinstance(name, str) else []
    result = redact_snapshot(redactor, listed, document, [*people, *agents])
    changed = dict(result.fields)
    if result.messages:
        changed["messages"] = [result.messages.get(place, message) for place, message in enumerate(listed)]
    return ({**document, **changed} if changed else document), result.counts


def _listed(value: Any) -> list[tuple[int | None, str]]:
    if not isinstance(value, list):
        return []
    return [(number, each) for number, each in enumerate(value) if isinstance(each, str)]


def _collect(
    messages: Sequence[Message],
    fields: Mapping[str, Any],
    places: Sequence[tuple[str, int | None]],
    parts: Sequence[Part],
    texts: Sequence[str],
    replacements: Sequence[Sequence[Replacement]],
    counts: dict[str, int],
) -> RedactedSnapshot:
    result = RedactedSnapshot({}, {}, counts, [])
    for (name, number), part, text, own in zip(places, parts, texts, replacements, strict=True):
        if not own:
            continue
        place = name
        if number is None:
            result.fields[name] = text
        elif name in _OF_MESSAGE:
            if number not in result.messages:
                result.messages[number] = dict(messages[number])
            result.messages[number][name] = text
            place = f"messages[{number}].{name}"
        else:
            result.fields.setdefault(name, list(fields[name]))[number] = text
            place = f"{name}[{number}]"
        result.changes.append(Change(place, part.text, text, own))
    return result
