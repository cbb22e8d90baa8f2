"""The neutral form: one conversation as one line of JSON, as exports and datasets bring it.

    {"conversation": {"ref", "channelType", "status", "language"},
     "contact": {"firstName", "lastName", "phoneNumber", "email"},
     "agent":   {"firstName", "lastName", "email"},
     "messages": [{"content", "sender": "contact"|"user", "senderType": "CONTACT"|"HUMAN"|"AI"|"SYSTEM",
                   "timestamp": "2026-05-13T13:14:57.199Z", "speaker"}]}

Required are `conversation.ref`, `messages`, and of each message `content`, `sender` and `timestamp`. What is
null counts as absent, and fields that the form does not have are passed over.
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
    "Field required": "is required",
    # A JSON parser's words; its line is always the first, and not the file's.
    "unexpected end of hex escape": "lone surrogate or broken \\u escape",
    " at line 1 column": " at column",
    "invalid unicode code point": "not UTF-8",
}


class InvalidLine(Refused):
    """The line is no conversation in the neutral form."""

    code = "invalid_line"


def _read_time(value: object) -> datetime:
    # Not Pydantic's own reading, which takes "1700000000" for seconds.
    try:
        read = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise ValueError("should be an ISO 8601 time with its zone, such as 2026-05-13T13:14:57.199Z")
    try:
        return read.astimezone(UTC)
    except OverflowError:
        raise ValueError("should be between the years 1 and 9999 in UTC") from None


Timestamp = Annotated[datetime, PlainValidator(_read_time)]


class _Form(BaseModel):
    # Strict: 5 is no content, and a number of seconds is no timestamp.
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
    """An e-mail as it is compared: without blanks around it, in lower case; None if there is none."""
    return (email.strip().lower() or None) if isinstance(email, str) else None


class Person(_Form):
    """A contact or an agent."""

    first_name: str | None = None
    last_name: str | None = None
    phone_number: str | None = None
    email: str | None = None


class Header(_Form):
    """What is said of the conversation itself."""

    ref: str = Field(min_length=1, max_length=500)
    channel_type: str | None = None
    status: str | None = None
    language: str | None = None


class Conversation(_Form):
    """One line."""

    header: Header = Field(alias="conversation")
    contact: Person | None = None
    agent: Person | None = None
    messages: tuple[Message, ...]

    @property
    def contact_key(self) -> tuple[str, str]:
        """Who the contact is: by e-mail, else by phone number, else the one of this conversation alone."""
        contact = self.contact or Person()
        if email := email_key(contact.email):
            return "email", email
        if contact.phone_number and contact.phone_number.strip():
            return "phoneNumber", contact.phone_number.strip()
        return "ref", self.header.ref

    def content_hash(self) -> str:
        """SHA-256, hex, over the contact's key and the messages: equal if and only if they say the same."""
        said = [
            (each.content, each.sender, each.sender_type, each.speaker, _to_text(each.timestamp))
            for each in self.messages
        ]
        return hashlib.sha256(json.dumps([self.contact_key, said]).encode()).hexdigest()


def _to_text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def parse(line: bytes) -> Conversation:
    """The conversation on a line.

    Raises InvalidLine, whose message names up to three faults by field and never shows a value.
    """
    if len(line) > MAX_LINE_BYTES:
        raise InvalidLine(f"the line is longer than {MAX_LINE_BYTES // 1024 // 1024} MiB")
    try:
        return Conversation.model_validate_json(line.rstrip())
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False, include_context=False)
    said = "; ".join(_named(each) for each in faults[:_SHOWN_FAULTS])
    more = len(faults) - _SHOWN_FAULTS
    raise InvalidLine(f"{said}; and {more} more" if more > 0 else said)


def _named(fault: ErrorDetails) -> str:
    """`messages[3].content: should be a valid string`."""
    path = ""
    for part in fault["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    said = fault["msg"]
    for old, new in _WORDING.items():
        said = said.replace(old, new)
    return f"{path}: {said}" if path else said
