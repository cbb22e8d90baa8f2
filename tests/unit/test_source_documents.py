"""The platform's documents of a conversation in the neutral form."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId

from worker.importing.neutral_form import InvalidLine, parse
from worker.importing.source_documents import SourceDocuments

ORGANIZATION = ObjectId("6a0000000000000000000001")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def documents(organization_id: ObjectId = ORGANIZATION, **fields: Any) -> SourceDocuments:
    whole = {"conversation": {"ref": "a-1"}, "messages": []} | fields
    return SourceDocuments(organization_id, parse(json.dumps(whole).encode()), NOW)


def message(second: int, **fields: Any) -> dict[str, Any]:
    return {"content": "Hello", "sender": "contact", "timestamp": f"2026-05-13T13:14:{second:02}.199Z"} | fields


def test_ids_are_derived_from_organization_kind_and_key() -> None:
    first, again = documents(contact={"email": "A@example.com"}), documents(contact={"email": "a@example.com "})
    assert first.contact["_id"] == again.contact["_id"]
    assert first.conversation_id == again.conversation_id
    other = documents(ObjectId(), contact={"email": "A@example.com"}, agent={"email": "A@example.com"})
    assert other.user is not None
    ids = {first.contact["_id"], first.conversation_id, other.contact["_id"], other.conversation_id, other.user["_id"]}
    assert len(ids) == 5


def test_message_ids_increase_in_file_order() -> None:
    stored = documents(messages=[message(1)] * 3000).messages(ObjectId())
    ids = [each["_id"] for each in stored]
    assert ids == sorted(ids)
    assert len(set(ids)) == 3000


def test_a_conversation_is_resolved_at_its_last_message() -> None:
    stored = documents(messages=[message(7), message(9), message(8)]).resolved(ObjectId(), None)
    assert stored["isResolved"] is True
    assert stored["resolvedAt"] == stored["importedResolvedAt"] == datetime(2026, 5, 13, 13, 14, 9, 199000, tzinfo=UTC)
    assert stored["createdAt"] == datetime(2026, 5, 13, 13, 14, 7, 199000, tzinfo=UTC)
    assert "resolvedBy" not in stored


def test_a_conversation_without_messages_is_resolved_at_its_import() -> None:
    stored = documents().resolved(ObjectId(), None)
    assert stored["isResolved"] is True
    assert stored["resolvedAt"] == stored["importedResolvedAt"] == NOW


def test_absent_fields_are_omitted_from_the_documents() -> None:
    made = documents(messages=[message(1)])
    contact_id = ObjectId()
    assert made.contact.keys() == {"_id", "organizationId", "createdAt", "updatedAt", "__v"}
    assert made.messages(contact_id) == [
        {
            "_id": made.messages(contact_id)[0]["_id"],
            "organizationId": ORGANIZATION,
            "conversationId": made.conversation_id,
            "contactId": contact_id,
            "content": "Hello",
            "sender": "contact",
            "timestamp": datetime(2026, 5, 13, 13, 14, 1, 199000, tzinfo=UTC),
            "createdAt": datetime(2026, 5, 13, 13, 14, 1, 199000, tzinfo=UTC),
            "updatedAt": datetime(2026, 5, 13, 13, 14, 1, 199000, tzinfo=UTC),
            "__v": 0,
        }
    ]


def test_an_agent_without_email_becomes_no_user() -> None:
    assert documents(agent={"firstName": "Ana"}).user is None


def test_a_message_over_16_mib_is_refused_and_one_just_below_is_not() -> None:
    most = 16 * 1024 * 1024
    for size, fits in ((most - 2048, True), (most, False)):
        made = documents(messages=[message(1), message(2, content="x" * size)])
        if fits:
            made.check_size(at_most=size + 4096)
        else:
            with pytest.raises(InvalidLine, match=r"messages\[1\]: should be smaller than 16 MiB"):
                made.check_size(at_most=size + 4096)
