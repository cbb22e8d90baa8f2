"""Reads a conversation as turns of two sides. Pure.

`sender: "user"` is the platform's side, the one that is trained: role `assistant`. All other senders are the customer's
side: role `user`, as in the export of the HTTP API. Messages without visible text are dropped, and messages of one side
that follow each other are one turn, joined by a line feed. Text is never changed otherwise.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from worker.formats.rows import NotRepresentable, check_text

UNREAD = ("messages.id", "messages.senderType", "messages.timestamp")
"""Paths of fields that turns do not depend on."""


class Turn(NamedTuple):
    """The consecutive messages of one side, joined by line feeds."""

    role: str
    """`user` or `assistant`."""
    content: str


def messages_of(snapshot: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the messages of a snapshot. Raises NotRepresentable if they are not an array of objects."""
    messages = snapshot.get("messages")
    # PyMongo's own are dicts, for which the first check is much faster.
    if not isinstance(messages, list) or not (
        set(map(type, messages)) <= {dict} or all(isinstance(each, Mapping) for each in messages)
    ):
        raise NotRepresentable("malformed_messages", "`messages` of the snapshot is not an array of objects.")
    return messages


def turns(snapshot: Mapping[str, Any]) -> list[Turn]:
    """Return the turns of a snapshot, of which there is at least one.

    Raises NotRepresentable: `malformed_messages`, `invalid_text`, `no_text`.
    """
    found: list[Turn] = []
    role, first, more = "", "", list[str]()
    for message in messages_of(snapshot):
        content = message.get("content")
        if not isinstance(content, str):
            if content is None:
                continue
            raise NotRepresentable("malformed_messages", "The content of a message is not text.")
        if not content.isascii():
            check_text(content)
        if not content or content.isspace():
            continue
        side = "assistant" if message.get("sender") == "user" else "user"
        if side == role:
            more.append(content)
            continue
        if role:
            found.append(Turn(role, "\n".join([first, *more]) if more else first))
        role, first, more = side, content, []
    if not role:
        raise NotRepresentable("no_text", "No message has visible text.")
    return [*found, Turn(role, "\n".join([first, *more]))]


def answered(snapshot: Mapping[str, Any]) -> list[Turn]:
    """Return the turns up to and including the assistant's last one. Each side has at least one turn.

    Later turns of the customer are omitted, because nothing can be learnt from a question without an answer.

    Raises:
        NotRepresentable: `no_assistant_turn` if the assistant says nothing, `no_user_turn` if the customer says nothing
            before the assistant's last turn, or a reason of `turns`.
    """
    found = turns(snapshot)
    if found[-1].role == "user":
        found.pop()
    if not found:
        raise NotRepresentable("no_assistant_turn", "The platform's side says nothing.")
    if all(each.role == "assistant" for each in found):
        raise NotRepresentable(
            "no_user_turn", "The customer says nothing before the last answer of the platform's side."
        )
    return found


def from_user(snapshot: Mapping[str, Any]) -> list[Turn]:
    """Return the turns from the customer's first one to the assistant's last one.

    They alternate, and their number is even.

    A greeting by the platform's side before the customer's first turn is not an answer, and is cut off. Raises
    NotRepresentable as `answered` does.
    """
    found = answered(snapshot)
    return found[1:] if found[0].role == "assistant" else found
