"""The expected types of each field that this service reads, and the names that other platforms use for it."""

from collections.abc import Mapping
from dataclasses import dataclass

from worker.settings.field_mapping import Group

ID = "id"
"""An ObjectId, or text of its 24 hex digits."""


DATE_TEXT = "text in ISO 8601"
"""Text that is read as a time."""


@dataclass(frozen=True)
class Expected:
    """A field's types and whether it is required."""

    kinds: tuple[str, ...]
    required: bool = False
    names: tuple[str, ...] = ()
    """Names that other platforms use, in lower case without separators, most likely first."""


_NAME = ("string", "number")
_TIME = ("date", DATE_TEXT, "number")
_ORGANIZATION = Expected(
    (ID,),
    required=True,
    names=(
        *("organizationid", "organization", "organisationid", "organisation", "orgid", "org", "tenantid", "tenant"),
        *("workspaceid", "workspace", "accountid", "account", "companyid", "company", "businessid", "business"),
        *("teamid", "team", "brandid", "brand"),
    ),
)
_FIRST = Expected(
    _NAME, names=("firstname", "givenname", "given", "forename", "first", "fname", "fullname", "displayname", "name")
)
_LAST = Expected(_NAME, names=("lastname", "familyname", "family", "surname", "last", "lname"))
_EMAIL = Expected(_NAME, names=("email", "emailaddress", "mail", "mailaddress"))
_CONTACT_NAMES = (
    *("contactid", "contact", "customerid", "customer", "customerref", "clientid", "client", "visitorid", "visitor"),
    *("leadid", "lead", "enduserid", "enduser", "personid", "person", "participantid", "userid", "user"),
)

EXPECTED: Mapping[Group, Mapping[str, Expected]] = {
    "contact": {
        "organizationId": _ORGANIZATION,
        "firstName": _FIRST,
        "lastName": _LAST,
        "phoneNumber": Expected(
            _NAME,
            names=(
                *("phonenumber", "phone", "mobile", "mobilenumber", "mobilephone", "cellphone", "cell", "telephone"),
                *("tel", "msisdn", "whatsapp", "waid"),
            ),
        ),
        "email": _EMAIL,
        "channelType": Expected(("string",)),
        "channelTypes": Expected(("array",)),
    },
    "conversation": {
        "organizationId": _ORGANIZATION,
        "contactId": Expected((ID,), required=True, names=_CONTACT_NAMES),
        "isResolved": Expected(
            ("bool",),
            names=("isresolved", "resolved", "isclosed", "closed", "isdone", "done", "iscompleted", "completed"),
        ),
        "resolvedAt": Expected(
            ("date",),
            names=(
                *("resolvedat", "closedat", "solvedat", "endedat", "completedat", "finishedat", "resolvedon"),
                *("closedon", "resolutiondate", "closedate", "closingat", "closingdate"),
            ),
        ),
        "resolvedBy": Expected(
            (ID,),
            names=(
                "resolvedby",
                "resolvedbyid",
                "resolvedbyuserid",
                "closedby",
                "closedbyid",
                "solvedby",
                "completedby",
            ),
        ),
        "importedResolvedAt": Expected(("date",)),
        "channelType": Expected(("string",)),
    },
    "message": {
        "organizationId": _ORGANIZATION,
        "contactId": Expected((ID,), names=_CONTACT_NAMES),
        "conversationId": Expected(
            (ID,),
            names=(
                *("conversationid", "conversation", "chatid", "chat", "threadid", "thread", "ticketid", "ticket"),
                *("sessionid", "session", "roomid", "room", "dialogid", "dialog", "channelid"),
            ),
        ),
        "content": Expected(
            ("string",),
            names=("content", "text", "body", "message", "messagetext", "textbody", "plaintext", "msg"),
        ),
        "timestamp": Expected(
            _TIME,
            names=(
                *("timestamp", "sentat", "senton", "sent", "createdat", "createdon", "created", "date", "datetime"),
                *("time", "ts", "receivedat"),
            ),
        ),
        "createdAt": Expected(_TIME),
        "sender": Expected(("string",)),
        "direction": Expected(("string",)),
        "senderType": Expected(("string",)),
        "isAIGenerated": Expected(
            ("bool",), names=("isaigenerated", "isai", "aigenerated", "isbot", "frombot", "isautomated", "automated")
        ),
    },
    "user": {"organizationId": _ORGANIZATION, "firstName": _FIRST, "lastName": _LAST, "email": _EMAIL},
}

FLAGS: Mapping[str, tuple[str, ...]] = {
    "message_deleted_field": (
        *("isdeleted", "deleted", "deletedat", "isremoved", "removed", "removedat", "withdrawn", "withdrawnat"),
        *("retracted", "retractedat", "revoked", "revokedat", "unsent", "unsentat"),
    ),
    "message_internal_field": (
        *("isinternal", "internal", "internalnote", "isinternalnote", "isprivate", "private", "isnote", "note"),
        *("iswhisper", "whisper", "staffonly", "isstaffonly", "agentonly", "isagentonly"),
    ),
}
"""Names of the two flags by which messages can be omitted."""

INTERNAL = frozenset(
    [
        *("internal", "internalnote", "internalcomment", "note", "privatenote", "agentnote", "staffnote", "private"),
        *("whisper", "aside", "memo"),
    ]
)
"""Values that mean an internal note, in lower case without separators."""

COLLECTIONS: Mapping[Group, tuple[str, ...]] = {
    "contact": ("contacts", "contact", "customers", "customer", "clients", "leads", "visitors", "people", "endusers"),
    "conversation": (
        *("conversations", "conversation", "chats", "chat", "threads", "tickets", "sessions", "rooms", "dialogs"),
    ),
    "message": (
        *("messages", "message", "chatmessages", "chatlines", "conversationmessages", "ticketmessages", "msgs"),
        *("comments", "replies", "posts"),
    ),
    "user": ("users", "user", "agents", "operators", "staff", "teammates", "employees", "members"),
}
"""Names of collections on other platforms, in lower case without separators."""


def spelled(name: str) -> str:
    """Return a name in lower case without separators."""
    return "".join(letter for letter in name.lower() if letter.isalnum())
