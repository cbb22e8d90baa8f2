"""What the platform's collections say that a request's snapshot has to hold. It shares no code with the product."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from pymongo.database import Database

Message = tuple[str, str, str]
"""Id, text, sender."""


def digest(messages: Iterable[Message]) -> str:
    """Of messages in their order."""
    return hashlib.sha256(json.dumps(list(messages), ensure_ascii=False).encode()).hexdigest()


class Source:
    """The source collections, as `world` has filled them."""

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._owned: dict[Any, list[Any]] = defaultdict(list)
        self._messages: dict[Any, tuple[Any, Message]] = {}
        for each in database.messages.find({}):
            sender = "contact" if each["direction"] == "inbound" else "user"
            self._messages[each["_id"]] = (each["timestamp"], (str(each["_id"]), each["content"], sender))
            self._owned[each["contactId"]].append(each["_id"])
            self._owned[each["conversationId"]].append(each["_id"])
        self._names = {each["_id"]: each["firstName"] for each in database.contacts.find({})}

    def digest_of(self, entry: Mapping[str, Any]) -> str:
        """Of the messages that a ledger entry asks for, in time order."""
        ids = entry.get("messageIds") or self._owned[entry.get("conversationId") or entry["contactId"]]
        found = sorted((self._messages[each][0], each) for each in ids)
        return digest(self._messages[each][1] for _, each in found)

    def name_of(self, entry: Mapping[str, Any]) -> str:
        """Of its contact."""
        return str(self._names[entry["contactId"]])
