"""Checks what an import leaves in the platform's collections."""

from typing import Any

from pymongo.database import Database


def counts(database: Database[dict[str, Any]]) -> dict[str, int]:
    return {name: database[name].count_documents({}) for name in ("contacts", "users", "conversations", "messages")}


def assert_conversations_are_whole(database: Database[dict[str, Any]], messages: int) -> None:
    """Asserts that each conversation has all its messages, and that nothing is without a conversation."""
    grouped = database.messages.aggregate([{"$group": {"_id": "$conversationId", "count": {"$sum": 1}}}])
    assert {each["_id"]: each["count"] for each in grouped} == dict.fromkeys(
        database.conversations.distinct("_id"), messages
    )
    assert set(database.contacts.distinct("_id")) == set(database.conversations.distinct("contactId"))
    assert set(database.users.distinct("_id")) == set(database.conversations.distinct("resolvedBy"))
