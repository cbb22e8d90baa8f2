"""Parses the neutral form: one conversation as one line of JSON, as exports and datasets contain it.

    {"conversation": {"ref", "channelType", "status", "language"},
     "contact": {"firstName", "lastName", "phoneNumber", "email"},
     "agent":   {"firstName", "lastName", "email"},
     "messages": [{"content", "sender": "contact"|"user", "senderType": "CONTACT"|"HUMAN"|"AI"|"SYSTEM",
                   "timestamp": "2026-05-13T13:14:57.199Z", "speaker"}]}

`conversation.ref`, `messages`, and the `content`, `sender` and `timestamp` of each message are required. A null
counts as absent, and unknown fields are ignored.
"""

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from worker.errors import Refused

MAX_LINE_BYTES = 64 * 1024 * 1024
_SHOWN_FAULTS = 3
_WORDING = {
    "Value error, ": "",
    "Input should": "should",
    "String should": "should",
    "List should": "should",
    "Field required": "is required",
    # The JSON parser's wording; its line number is always 1, not the file's.
    "unexpected end of hex escape": "lone surrogate or broken \\u escape",
    " at line 1 column": " at column",
    "invalid unicode code point": "not UTF-8",
}


class InvalidLine(Refused):
    """The line is not a conversation in the neutral form."""

    code = "invalid_line"


def _read_time(value: object) -> datetime:
    # Not Pydantic's own parser, which takes "1700000000" as seconds.
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("should be an ISO 8601 time with its zone, such as 2026-05-13T13:14:57.199Z")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("should be between the years 1 and 9999 in UTC") from None


Timestamp = Annotated[datetime, PlainValidator(_read_time)]


class _Form(BaseModel):
    # Strict: 5 is not a content, and a number of seconds is not a timestamp.
    model_config = ConfigDict(
        strict=True, frozen=True, extra="ignore", alias_generator=to_camel, hide_input_in_errors=True
    )


class Message(_Form):
    """One message; `timestamp` is in UTC."""

    content: str
    sender: Literal["contact", "user"]
    sender_type: Literal["CONTACT", "HUMAN", "AI", "SYSTEM"] | None = None
    timestamp: Timestamp
    speaker: str | None = None


def email_key(email: object) -> str | None:
    """Return an e-mail address for comparison: stripped and in lower case; None if there is none."""
    return (email.strip().lower() or None) if isinstance(email, str) else None


class Person(_Form):
    """A contact or an agent."""

    first_name: str | None = None
    last_name: str | None = None
    phone_number: str | None = None
    email: str | None = None


class Header(_Form):
    """The fields of the conversation itself."""

    ref: str = Field(min_length=1, max_length=500)
    channel_type: str | None = None
    status: str | None = None
    language: str | None = None


class Conversation(_Form):
    """A conversation: one line of a file."""

    header: Header = Field(alias="conversation")
    contact: Person | None = None
    agent: Person | None = None
    messages: Annotated[tuple[Message, ...], Field(fail_fast=True)]

    @property
    def contact_key(self) -> tuple[str, str]:
        """The key that identifies the contact: the e-mail, else the phone number, else this conversation."""
        contact = self.contact or Person()
        if email := email_key(contact.email):
            return "email", email
        if contact.phone_number and contact.phone_number.strip():
            return "phoneNumber", contact.phone_number.strip()
        return "ref", self.header.ref

    def content_hash(self) -> str:
        """Return the SHA-256 (hex) of the contact's key and the messages, to compare conversations by content."""
        messages = [
            (message.content, message.sender, message.sender_type, message.speaker, _to_text(message.timestamp))
            for message in self.messages
        ]
        return hashlib.sha256(json.dumps([self.contact_key, messages]).encode()).hexdigest()


def _to_text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def parse(line: bytes) -> Conversation:
    """Return the conversation on a line.

    Raises InvalidLine, whose message names up to three faulty fields and never a value.
    """
    if len(line) > MAX_LINE_BYTES:
        raise InvalidLine(f"the line is longer than {MAX_LINE_BYTES // 1024 // 1024} MiB")
    try:
        return Conversation.model_validate_json(line.rstrip())
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
    message = "; ".join(_describe(fault) for fault in faults[:_SHOWN_FAULTS])
    more = len(faults) - _SHOWN_FAULTS
    raise InvalidLine(f"{message}; and {more} more" if more > 0 else message)


def _describe(fault: ErrorDetails) -> str:
    """Return the field and the fault, such as `messages[3].content: should be a valid string`."""
    path = ""
    for part in fault["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    message = fault["msg"]
    for old, new in _WORDING.items():
        message = message.replace(old, new)
    return f"{path}: {message}" if path else message
