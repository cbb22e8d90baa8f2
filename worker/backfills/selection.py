"""Reads the conversations that a backfill selects, in the order of their ids."""

import sys
from collections.abc import Sequence
from typing import Any

from bson import ObjectId
from pymongo.collection import Collection

from worker.backfills.spec import BackfillSpec
from worker.domain.normalize import order
from worker.source.ids import id_of, read_id, stored_forms
from worker.stores.connections import PLAIN, Connections, Document, store_errors

Position = ObjectId | str | None
"""The `_id` of the last conversation that was read, as stored; None at the beginning."""
_FIRST_ID = ObjectId(b"\0" * 12)


class Selection:
    """The selected conversations. Its methods raise StoreUnavailable and StoreConflict."""

    def __init__(self, connections: Connections, spec: BackfillSpec) -> None:
        self._connections = connections
        self._fields = connections.fields
        self._spec = spec
        of = self._fields.conversation
        self._condition: Document = {of["organizationId"]: {"$in": stored_forms([spec.organization_id])}}
        if spec.channels:
            self._condition[of["channelType"]] = {"$in": spec.channels}

    @property
    def _conversations(self) -> Collection[Document]:
        name = self._connections.settings.conversations_collection
        return self._connections.database[name].with_options(codec_options=PLAIN)

    def has_any(self) -> bool:
        """Return whether any conversation matches the filters that need no messages."""
        with store_errors():
            return self._conversations.find_one(self._condition, {"_id": 1}) is not None

    def count(self) -> int | None:
        """Count the selected conversations. None if that depends on messages, so that every page has to be read."""
        if self._spec.depends_on_messages:
            return None
        with store_errors():
            return self._conversations.count_documents(self._condition)

    def count_unusable(self) -> int:
        """Count the conversations whose `_id` is not an id, for which no snapshot can be requested."""
        condition = {**self._condition, "_id": {"$not": {"$type": ["string", "objectId"]}}}
        with store_errors():
            return self._conversations.count_documents(condition)

    def page(self, after: Position, size: int) -> tuple[list[Document], Position]:
        """Read the next `size` conversations after a position; return the selected ones, and the new position.

        They have `_id` and `contactId`. The position is None at the end.
        """
        read = self._read(after, size)
        if not read:
            return [], None
        return self._selected(read), read[-1]["_id"]

    def _read(self, after: Position, size: int) -> list[Document]:
        # MongoDB compares only values of the same type, and sorts text before ObjectIds.
        if not isinstance(after, ObjectId):
            if found := self._after(after or "", size):
                return found
            after = _FIRST_ID
        return self._after(after, size)

    def _after(self, after: ObjectId | str, size: int) -> list[Document]:
        fields = self._fields.conversation.projection(["contactId"])
        condition = {**self._condition, "_id": {"$gt": after}}
        with store_errors():
            return list(self._conversations.find(condition, fields, batch_size=size + 1).sort("_id", 1).limit(size))

    def _selected(self, conversations: list[Document]) -> list[Document]:
        if not self._spec.depends_on_messages:
            return conversations
        found = self._messages([each["_id"] for each in conversations])
        return [each for each in conversations if self._spec.selects(*found.get(read_id(each["_id"]), (0, None)))]

    def _messages(self, conversations: Sequence[Any]) -> dict[Any, tuple[int, int | None]]:
        """Return for each conversation the number of its messages, and the time of the first one in ms since 1970."""
        of = self._fields.message
        ids = [key for key in map(read_id, conversations) if isinstance(key, ObjectId)]
        match = {
            of["organizationId"]: {"$in": stored_forms([self._spec.organization_id])},
            of["conversationId"]: {"$in": stored_forms(ids)},
            **of.kept,
        }
        time = {"$ifNull": [of.expression("timestamp"), of.expression("createdAt")]}
        group = {
            "_id": id_of(f"${of['conversationId']}"),
            "count": {"$sum": 1},
            "began": {"$min": time},
            "types": {"$addToSet": {"$type": time}},
        }
        name = self._connections.settings.messages_collection
        messages = self._connections.database[name].with_options(codec_options=PLAIN)
        with store_errors():
            found = messages.aggregate([{"$match": match}, {"$group": group}])
            groups = [each for each in found if isinstance(each["_id"], ObjectId)]  # `$in` matches arrays, too
            began = {each["_id"]: order({"_id": "", "timestamp": each["began"]})[0] for each in groups}
            # MongoDB sorts numbers and text before dates, and a message may have no time but that in its `_id`.
            odd = [each["_id"] for each in groups if each["types"] != ["date"]]
            if odd and self._spec.depends_on_time:
                fields = of.projection(["conversationId", "timestamp", "createdAt"])
                began |= dict.fromkeys(odd, sys.maxsize)
                for message in messages.find({**match, of["conversationId"]: {"$in": stored_forms(odd)}}, fields):
                    if (key := read_id(message["conversationId"])) in began:
                        began[key] = min(began[key], order(message)[0])
        return {each["_id"]: (each["count"], began[each["_id"]]) for each in groups}
