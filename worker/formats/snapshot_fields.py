"""The documented fields of a snapshot as columns, in the order of docs/data.md, but with objects at the end."""

from worker.redaction.kinds import KINDS

_ID, _TEXT, _DATE = "string", "string", "timestamp"
_COUNTS = dict.fromkeys(KINDS, "int64")

MESSAGE = {"id": _ID, "content": _TEXT, "sender": _TEXT, "senderType": _TEXT, "timestamp": _DATE}

SNAPSHOT = {
    "_id": _ID,
    "organizationId": _ID,
    "userId": _ID,
    "contactId": _ID,
    "customerName": _TEXT,
    "customerPhone": _TEXT,
    "customerEmail": _TEXT,
    "messageCount": "int64",
    "snapshotDate": _DATE,
    "conversationStartDate": _DATE,
    "conversationEndDate": _DATE,
    "notes": _TEXT,
    "tags": [_TEXT],
    "quality": _TEXT,
    "category": _TEXT,
    "isArchived": "bool",
    "requestId": _TEXT,
    "conversationId": _ID,
    "trigger": _TEXT,
    "supersedes": _ID,
    "contentHash": _TEXT,
    "omittedMessageCount": "int64",
    "createdAt": _DATE,
    "updatedAt": _DATE,
    "__v": "int64",
    "redaction": {"policy": "int64", "counts": _COUNTS},
    "erasedMentions": {"at": _DATE, "counts": _COUNTS},
}
"""The columns of all fields except `messages`."""
