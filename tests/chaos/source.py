"""What a snapshot has to contain, according to the platform's collections. Shares no code with the product."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

Message = tuple[str, str, str, int]
"""Id, text, sender, and time in milliseconds since 1970."""


def digest(messages: Iterable[Message]) -> str:
    """Returns a digest of messages in their order."""
    return hashlib.sha256(json.dumps(list(messages), ensure_ascii=False).encode()).hexdigest()


def milliseconds(moment: datetime) -> int:
    """Returns a time in UTC, which PyMongo gives with or without its time zone, in milliseconds since 1970."""
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)


class Source:
    """The source collections, as `dataset` filled them."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._owned: dict[Any, list[Any]] = defaultdict(list)
        self._messages: dict[Any, tuple[Any, Message]] = {}
        for message in database.messages.find({}):
            sender = "contact" if message["direction"] == "inbound" else "user"
            at = message["timestamp"]
            made = (str(message["_id"]), message["content"], sender, milliseconds(at))
            self._messages[message["_id"]] = (at, made)
            self._owned[message["contactId"]].append(message["_id"])
            self._owned[message["conversationId"]].append(message["_id"])
        self._names = {contact["_id"]: contact["firstName"] for contact in database.contacts.find({})}

    def digest_of(self, entry: Mapping[str, Any]) -> str:
        """Returns the digest of the messages that a ledger entry asks for, in time order."""
        ids = entry.get("messageIds") or self._owned[entry.get("conversationId") or entry["contactId"]]
        ordered = sorted((self._messages[key][0], key) for key in ids)
        return digest(self._messages[key][1] for _, key in ordered)

    def name_of(self, entry: Mapping[str, Any]) -> str:
        """Returns the name of its contact."""
        return str(self._names[entry["contactId"]])
