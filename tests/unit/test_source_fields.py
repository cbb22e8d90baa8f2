"""The default settings leave every read as it is; others rename fields, translate values and omit flagged messages."""

from typing import Any

import pytest

from worker.closings.change_stream import closings_pipeline
from worker.domain.source_fields import CONTACT, CONVERSATION, MESSAGE, SourceFields
from worker.errors import InvalidSettings
from worker.settings import load
from worker.source.message_pipeline import MessagePipeline
from worker.stores.indexes import source_indexes

INVALID = [
    ("MESSAGE_TEXT_FIELD", "", "at least 1 character"),
    ("MESSAGE_TEXT_FIELD", "$text", "do not begin with $"),
    ("MESSAGE_TEXT_FIELD", "content..body", "single dots"),
    ("MESSAGE_TEXT_FIELD", "parts.0.text", "a position in an array cannot be named"),
    ("MESSAGE_TEXT_FIELD", "a.b.c.d.e.f", "at most 5 levels, but has 6"),
    ("CONTACT_EMAIL_FIELD", "_id", "should not be _id"),
    ("MESSAGE_DIRECTION_VALUES", "in=inward", "one of inbound, outbound"),
    ("MESSAGE_SENDER_VALUES", "customer", "such as customer=contact,agent=user"),
    ("MESSAGE_SENDER_TYPE_VALUES", "bot=AI,bot=HUMAN", "each stored value once"),
    ("CONVERSATION_RESOLVED_VALUES", "closed,,solved", "such as closed,solved"),
    ("MESSAGE_SENDER_TYPE_FIELD", "sender.kind", "SNAPSHOTS_MESSAGE_SENDER_FIELD"),
]


@pytest.mark.parametrize(("name", "value", "said"), INVALID)
def test_invalid_name_or_translation_is_refused_at_start(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SNAPSHOTS_{name}", value)
    with pytest.raises(InvalidSettings) as caught:
        load()
    assert f"SNAPSHOTS_{name}" in caught.value.message
    assert said in caught.value.message


def test_default_settings_rename_nothing() -> None:
    fields = SourceFields(load())
    for names, own in ((MESSAGE, fields.message), (CONVERSATION, fields.conversation), (CONTACT, fields.contact)):
        assert own.projection(names) == dict.fromkeys(names, 1)
        document = dict.fromkeys(names, "x")
        assert own.stored(document) == document
    assert fields.message.kept == {}
    assert [index.name for index in source_indexes(load())] == [
        "snapshots_organizationId_contactId_timestamp__id",
        "snapshots_organizationId_conversationId_timestamp__id",
        "snapshots_organizationId_contactId",
        "snapshots_organizationId__id",
        "snapshots_resolvedAt",
    ]


def test_default_settings_make_the_pipeline_that_was_measured() -> None:
    sender = _first("$sender", _switch(("$direction", "inbound", "contact"), ("$direction", "outbound", "user")))
    guessed = _switch(
        ("$direction", "outbound", "HUMAN"),
        ("$direction", "inbound", "CONTACT"),
        ("$sender", "user", "HUMAN"),
        ("$sender", "contact", "CONTACT"),
    )
    sender_type = _first("$senderType", {"$cond": [{"$eq": ["$isAIGenerated", True]}, "AI", guessed]})
    types = [
        ("$_id", "objectId"),
        ("$timestamp", "date"),
        *((each, "string") for each in ("$content", sender, sender_type)),
    ]
    regular = {"$and": [{"$eq": [{"$type": each}, kind]} for each, kind in types]}
    group = {
        "_id": "$conversationId",
        "count": {"$sum": 1},
        "startedAt": {"$first": "$timestamp"},
        "endedAt": {"$last": "$timestamp"},
        "odd": {"$sum": {"$cond": [regular, 0, 1]}},
        "messages": {
            "$push": {
                "id": {"$convert": {"input": "$_id", "to": "string", "onError": None}},
                "content": "$content",
                "sender": sender,
                "senderType": sender_type,
                "timestamp": _first("$timestamp", "$createdAt"),
            }
        },
    }
    order = {"organizationId": 1, "conversationId": 1, "timestamp": 1, "_id": 1}
    made = MessagePipeline(SourceFields(load()).message).in_index_order("conversationId")
    assert made == [{"$sort": order}, {"$group": group}]
    assert list(made[0]["$sort"]) == list(order)
    assert list(made[1]["$group"]) == list(group)


def _first(*expressions: Any) -> dict[str, Any]:
    return {"$ifNull": list(expressions)}


def _switch(*cases: tuple[str, str, str]) -> dict[str, Any]:
    branches = [{"case": {"$eq": [field, value]}, "then": ours} for field, value, ours in cases]
    return {"$switch": {"branches": branches, "default": None}}


def test_documents_are_written_under_the_names_and_values_of_the_platform() -> None:
    fields = SourceFields(
        load(
            message_text_field="content.body",
            message_sender_field="author.kind",
            message_sender_values="customer=contact,agent=user",
            conversation_resolved_field="state",
            conversation_resolved_values="closed,solved",
        )
    )
    assert fields.message.stored({"_id": 1, "content": "Hi", "sender": "user", "ref": "a"}) == {
        "_id": 1,
        "content": {"body": "Hi"},
        "author": {"kind": "agent"},
        "ref": "a",
    }
    assert fields.conversation.stored({"isResolved": True}) == {"state": "closed"}
    assert fields.conversation.may_be_resolved == {"$in": ["closed", "solved"]}


def test_numbers_and_flags_are_translated_as_such() -> None:
    fields = SourceFields(load(message_direction_values="0=inbound,true=outbound")).message
    branches = fields.expression("direction")["$switch"]["branches"]
    assert [each["case"]["$in"][1]["$literal"] for each in branches] == [["0", 0], ["true", True]]


def test_change_stream_watches_the_top_level_field_of_the_settings() -> None:
    fields = SourceFields(load(conversation_resolved_field="closed", conversation_resolved_at_field="closedAt"))
    (match, _) = closings_pipeline(fields.conversation)
    updated = [list(each)[1] for each in match["$match"]["$or"]]
    assert updated[:2] == ["updateDescription.updatedFields.closed", "updateDescription.updatedFields.closedAt"]
