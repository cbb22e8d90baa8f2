"""Redacts a snapshot: its messages, and the fields that people fill in."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from worker.redaction.kinds import KINDS
from worker.redaction.redactor import Part, Redacted, Redactor, Replacement

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
"""The fields to redact, in the order in which placeholders are numbered, and the kind of each field as a whole."""
_OF_MESSAGE = ("content", "sender", "senderType")
_USUAL = frozenset({"", "contact", "user", "CONTACT", "HUMAN", "AI", "SYSTEM"})
_NOWHERE = -1

_Place = tuple[str, int | None, int]
"""A field, its place among the messages or in a list, and the number of its text."""
_Changed = tuple[str, int | None, str, str, Sequence[Replacement]]
"""A field, its place among the messages or in a list, the text before and after, and what was replaced."""


class Change(NamedTuple):
    """A text that redaction changes, for people who check the effect of a policy."""

    place: str
    """The path of the text, such as `messages[3].content`."""
    before: str
    after: str
    replacements: Sequence[Replacement]


@dataclass(frozen=True, slots=True)
class RedactedSnapshot:
    """What redaction changes in a snapshot. Everything else stays as it is."""

    messages: dict[int, dict[str, Any]]
    """The changed messages, by their index."""
    fields: dict[str, Any]
    """The changed fields, by name."""
    counts: dict[str, int]
    changed: list[_Changed]

    @property
    def changes(self) -> list[Change]:
        """Every text that changes, in order of appearance."""
        return [
            Change(_describe(name, number), before, after, own) for name, number, before, after, own in self.changed
        ]


def redact_snapshot(
    redactor: Redactor, messages: Sequence[Message], fields: Mapping[str, Any], people: Sequence[tuple[str, ...]] = ()
) -> RedactedSnapshot:
    """Redact the messages of a snapshot and the fields that people fill in.

    Args:
        redactor: Says what is looked for.
        messages: The messages in the form that a snapshot stores: `content`, `sender` and `senderType` are redacted.
        fields: `notes`, `tags`, `quality`, `category`, `customerName`, `customerPhone` and `customerEmail`, as far as
            there are any. Values that are not text are left alone.
        people: The names of the contact, then of the agents, each as first and last name.

    Returns:
        The messages and fields that change, and the number of replacements by kind.
    """
    places: list[_Place] = []
    parts: list[Part] = []
    known = dict.fromkeys(_USUAL, _NOWHERE)
    for number, message in enumerate(messages):
        for name in _OF_MESSAGE:
            value = message.get(name)
            if not isinstance(value, str):
                continue
            text = str(value)  # a bson.Code is a text, but cannot be hashed
            which = known.get(text)
            if which is None:
                which = known[text] = len(parts)
                parts.append(Part(text))
            if which != _NOWHERE:
                places.append((name, number, which))
    for name, whole in _TEXTS:
        value = fields.get(name)
        for place, text in [(None, value)] if isinstance(value, str) else _listed(value):
            places.append((name, place, len(parts)))
            parts.append(Part(str(text), whole))
    phone = fields.get("customerPhone")
    redacted = redactor(parts, people, phone if isinstance(phone, str) else None)
    if not redacted.is_changed:
        return RedactedSnapshot({}, {}, {}, [])
    return _collect(messages, fields, places, parts, redacted)


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


def _describe(name: str, number: int | None) -> str:
    if number is None:
        return name
    return f"messages[{number}].{name}" if name in _OF_MESSAGE else f"{name}[{number}]"


def _listed(value: Any) -> list[tuple[int | None, str]]:
    if not isinstance(value, list):
        return []
    return [(number, each) for number, each in enumerate(value) if isinstance(each, str)]


def _collect(
    messages: Sequence[Message],
    fields: Mapping[str, Any],
    places: Sequence[_Place],
    parts: Sequence[Part],
    redacted: Redacted,
) -> RedactedSnapshot:
    counts: Counter[str] = Counter()
    result = RedactedSnapshot({}, {}, {}, [])
    for name, number, which in places:
        own = redacted.replacements[which]
        if not own:
            continue
        text = redacted.texts[which]
        for each in own:
            counts[each.kind] += 1
        if number is None:
            result.fields[name] = text
        elif name in _OF_MESSAGE:
            if number not in result.messages:
                result.messages[number] = dict(messages[number])
            result.messages[number][name] = text
        else:
            result.fields.setdefault(name, list(fields[name]))[number] = text
        result.changed.append((name, number, parts[which].text, text, own))
    result.counts.update((kind, counts[kind]) for kind in KINDS if kind in counts)
    return result
