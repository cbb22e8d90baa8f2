"""The settings that name the platform's fields, for platforms whose documents differ from the defaults.

`worker.domain.source_fields` applies them; docs/data.md explains them. A field is a path with dots between its levels,
as MongoDB writes it; several settings may name the same one. Values are translated by pairs such as `in=inbound`.
"""

import re
from collections.abc import Iterable
from itertools import permutations
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

_MAX_LEVELS = 5
_PART = re.compile(r"[^\s.$\x00](?:[^\s.\x00])*")
DIRECTIONS: Final = ("inbound", "outbound")
SENDERS: Final = ("contact", "user")
SENDER_TYPES: Final = ("CONTACT", "HUMAN", "AI", "SYSTEM")
Group = Literal["message", "conversation", "contact", "user"]
GROUPS: Final[tuple[Group, ...]] = ("message", "conversation", "contact", "user")


def is_part(name: str) -> bool:
    """Return whether a path may contain this name between its dots."""
    return bool(_PART.fullmatch(name)) and not name.isdecimal()


def _check_path(value: str) -> str:
    parts = value.split(".")
    if not all(is_part(part) for part in parts):
        raise ValueError(
            "should be a field such as text or content.body: names without spaces that do not begin with $, "
            "separated by single dots; a position in an array cannot be named"
        )
    if len(parts) > _MAX_LEVELS:
        raise ValueError(f"should have at most {_MAX_LEVELS} levels, but has {len(parts)}")
    if parts[0] == "_id":
        raise ValueError("should not be _id, which identifies a document and is always read")
    return value


def read_pairs(value: str) -> dict[str, str]:
    """Parse the value of a setting that translates values, which is validated already.

    Example:
        read_pairs("in=inbound, out=outbound")  # {"in": "inbound", "out": "outbound"}: ours by the stored value
    """
    pairs = (pair.rpartition("=") for pair in value.split(","))
    return {stored.strip(): ours.strip() for stored, _, ours in pairs}


def read_list(value: str) -> list[str]:
    """Parse the value of a setting that lists values, which is validated already.

    Example:
        read_list("closed, solved")  # ["closed", "solved"]
    """
    return [item.strip() for item in value.split(",")]


def _pairs_to(*allowed: str) -> AfterValidator:
    def check(value: str) -> str:
        pairs = [pair.rpartition("=") for pair in value.split(",")]
        if not all(stored.strip() and ours.strip() in allowed for stored, _, ours in pairs):
            raise ValueError(
                f"should be pairs of a stored value and one of {', '.join(allowed)}, separated by commas, "
                f"such as {_example(allowed)}"
            )
        _refuse_repeated(stored.strip() for stored, _, _ in pairs)
        return value

    return AfterValidator(check)


def _example(allowed: tuple[str, ...]) -> str:
    examples: dict[tuple[str, ...], str] = {
        DIRECTIONS: "in=inbound,out=outbound",
        SENDERS: "customer=contact,agent=user",
    }
    return examples.get(allowed, "customer=CONTACT,agent=HUMAN,bot=AI")


def _check_list(value: str) -> str:
    items = read_list(value)
    if not all(items):
        raise ValueError("should be one or more values separated by commas, such as closed,solved")
    _refuse_repeated(items)
    return value


def _refuse_repeated(values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"should name each stored value once, but repeats {value}")
        seen.add(value)


Path = Annotated[str, Field(min_length=1, max_length=120), AfterValidator(_check_path)]
Directions = Annotated[str, Field(max_length=1000), _pairs_to(*DIRECTIONS)]
Senders = Annotated[str, Field(max_length=1000), _pairs_to(*SENDERS)]
SenderTypes = Annotated[str, Field(max_length=1000), _pairs_to(*SENDER_TYPES)]
Values = Annotated[str, Field(max_length=1000), AfterValidator(_check_list)]


class FieldSettings(BaseModel):
    """The fields of the platform's documents, with their defaults."""

    organization_field: Path = Field("organizationId", description="organization, in all four collections")

    message_contact_field: Path = Field("contactId", description="the contact of a message")
    message_conversation_field: Path = Field("conversationId", description="the conversation of a message")
    message_text_field: Path = Field("content", description="text")
    message_timestamp_field: Path = Field("timestamp", description="time; `createdAt` is used if it is missing")
    message_sender_field: Path = Field("sender", description="which side wrote it: `contact` or `user`")
    message_sender_values: Senders | None = Field(
        None, description="translation of senders, such as `customer=contact,agent=user`"
    )
    message_direction_field: Path = Field("direction", description="`inbound` or `outbound`, used without a sender")
    message_direction_values: Directions | None = Field(
        None, description="translation of directions, such as `in=inbound,out=outbound`"
    )
    message_sender_type_field: Path = Field("senderType", description="`CONTACT`, `HUMAN`, `AI` or `SYSTEM`")
    message_sender_type_values: SenderTypes | None = Field(
        None, description="translation of sender types, such as `customer=CONTACT,agent=HUMAN,bot=AI`"
    )
    message_ai_field: Path = Field("isAIGenerated", description="flag: an AI wrote it; used without a sender type")
    message_deleted_field: Path | None = Field(
        None, description="flag or date of a soft deletion; such messages are omitted and counted"
    )
    message_deleted_values: Values | None = Field(
        None, description="values of that field that mean deleted, such as `removed`; default: any value that is set"
    )
    message_internal_field: Path | None = Field(
        None, description="flag of an internal note; such messages are omitted and counted"
    )
    message_internal_values: Values | None = Field(
        None, description="values of that field that mean internal, such as `note`; default: any value that is set"
    )

    conversation_contact_field: Path = Field("contactId", description="the contact of a conversation")
    conversation_resolved_field: Path = Field("isResolved", description="whether a conversation is resolved")
    conversation_resolved_values: Values | None = Field(
        None, description="values that mean resolved, such as `closed,solved`; default: `true`"
    )
    conversation_resolved_at_field: Path = Field("resolvedAt", description="date of the resolution")
    conversation_resolved_by_field: Path = Field(
        "resolvedBy", description="the user who resolved it, whose name is redacted with the kind `name`"
    )

    contact_first_name_field: Path = Field("firstName", description="first or only name of a contact")
    contact_last_name_field: Path = Field("lastName", description="last name of a contact")
    contact_phone_field: Path = Field("phoneNumber", description="phone number of a contact")
    contact_email_field: Path = Field("email", description="e-mail address of a contact")
    user_first_name_field: Path = Field("firstName", description="first or only name of a user")
    user_last_name_field: Path = Field("lastName", description="last name of a user")
    user_email_field: Path = Field("email", description="e-mail address of a user")

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        for flag in ("message_deleted", "message_internal"):
            if getattr(self, f"{flag}_values") and not getattr(self, f"{flag}_field"):
                raise ValueError(
                    f"{variable(f'{flag}_values')} has no effect without {variable(f'{flag}_field')}: "
                    "name the field that holds these values"
                )
        for group in GROUPS:
            paths = {name: path for name in field_settings(group) if (path := getattr(self, name))}
            for (one, outer), (other, inner) in permutations(paths.items(), 2):
                if inner.startswith(f"{outer}."):
                    raise ValueError(
                        f"{variable(one)} ({outer}) and {variable(other)} ({inner}) cannot both be read, because "
                        f"{inner} lies within {outer}: name a field below {outer} for {variable(one)} too"
                    )
        return self


def field_settings(group: Group) -> list[str]:
    """Return the settings that name the fields of one collection, such as `message_text_field`.

    `organization_field` is one of them for every collection.
    """
    own = (name for name in FieldSettings.model_fields if name.startswith(f"{group}_") and name.endswith("_field"))
    return ["organization_field", *own]


def variable(name: str) -> str:
    """Return the name of a setting's environment variable."""
    return f"SNAPSHOTS_{name.upper()}"
