"""Ids that part of the platform's documents store as text: the documents are found all the same."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import DBRef, Decimal128, MinKey, ObjectId

from support.fetching import contents, fetched
from support.ledger import Bench
from worker.api.checks import RequestChecks
from worker.api.populate import Populator
from worker.domain.assembly import Conversation
from worker.errors import ContactNotFound, MessagesNotFound
from worker.runs.run import Run

pytestmark = pytest.mark.usefixtures("indexed")

ALL = [f"Hello {number}" for number in range(6)]
FIELDS = ("organizationId", "contactId", "conversationId")
CASES: list[tuple[Sequence[str], Callable[[ObjectId], str]]] = [
    *(((name,), str) for name in FIELDS),
    (FIELDS[1:], str),
    (FIELDS, str),
    (FIELDS, lambda key: str(key).upper()),
]


def half_as_text(bench: Bench, fields: Sequence[str], text: Callable[[ObjectId], str]) -> tuple[ObjectId, ObjectId]:
    """Stores six messages, every other one with these fields as text; returns their contact and conversation."""
    contact = bench.contact()
    conversation = bench.conversation(contact, 0)
    for number in range(6):
        message = bench.message(number, contactId=contact, conversationId=conversation)
        if number % 2:
            message |= {name: text(message[name]) for name in fields}
        bench.database.messages.insert_one(message)
    return contact, conversation


@pytest.mark.parametrize(("fields", "text"), CASES)
def test_messages_are_found_whichever_of_their_ids_are_text(
    bench: Bench, fields: Sequence[str], text: Callable[[ObjectId], str]
) -> None:
    contact, conversation = half_as_text(bench, fields, text)
    other = bench.conversation(bench.contact(), 2)
    whole, one, regular = bench.accepted(
        bench.asked(contact),
        bench.asked(contact, conversationId=conversation),
        bench.asked(bench.database.conversations.find_one({"_id": other})["contactId"], conversationId=other),
    )
    for keys in ([whole], [one], [whole, one, regular]):
        found = fetched(bench, *keys)
        assert [
            isinstance(each, Conversation) and each.messages and each.messages.count for each in found.values()
        ] == [2 if key == regular else 6 for key in found]
    assert contents(bench, one) == contents(bench, whole) == ALL


@pytest.mark.parametrize("fields", [("contactId",), ("conversationId",), FIELDS])
def test_irregular_messages_with_text_ids_are_found(bench: Bench, fields: Sequence[str]) -> None:
    contact, conversation = half_as_text(bench, fields, str)
    bench.database.messages.update_many({"content": {"$in": ALL[:2]}}, {"$set": {"content": None}})
    whole, one = bench.accepted(bench.asked(contact), bench.asked(contact, conversationId=conversation))
    assert contents(bench, one) == contents(bench, whole) == ["", "", *ALL[2:]]


def test_messages_that_name_no_contact_are_found_by_a_conversation_stored_as_text(bench: Bench) -> None:
    contact = bench.contact()
    conversation = bench.conversation(contact, 0, contactId=str(contact))
    for number in range(6):
        key = str(conversation) if number % 2 else conversation
        bench.database.messages.insert_one(bench.message(number, conversationId=key))
    whole, one = bench.accepted(bench.asked(contact), bench.asked(contact, conversationId=conversation))
    assert contents(bench, one) == contents(bench, whole) == ALL


@pytest.mark.parametrize("fields", [("_id",), ("organizationId",), ("_id", "organizationId", "contactId")])
def test_contact_and_conversation_whose_ids_are_text_are_found(bench: Bench, fields: Sequence[str]) -> None:
    contact, conversation = ObjectId(), ObjectId()
    ids = {"organizationId": bench.organization, "contactId": contact}
    as_text = {name: str({"_id": conversation, **ids}[name]) for name in fields}
    bench.database.conversations.insert_one({"_id": conversation, **ids, **as_text})
    theirs = {name: value for name, value in as_text.items() if name == "organizationId"}
    key: Any = str(contact) if "_id" in fields else contact
    bench.database.contacts.insert_one({"_id": key, "organizationId": bench.organization, "firstName": "Ana", **theirs})
    bench.database.messages.insert_many(
        [bench.message(number, contactId=contact, conversationId=conversation) for number in range(6)]
    )
    keys = bench.accepted(bench.asked(contact), bench.asked(contact, conversationId=conversation))
    assert RequestChecks(bench.connections)(bench.entries(keys)) == [None, None]
    assert Run(bench.service)(keys).completed == 2
    assert {snapshot["customerName"] for snapshot in bench.snapshots().values()} == {"Ana"}
    assert {snapshot["messageCount"] for snapshot in bench.snapshots().values()} == {6}


@pytest.mark.parametrize("fields", [("_id",), ("organizationId",), ("contactId",), ("_id", *FIELDS)])
def test_named_messages_are_found_whichever_of_their_ids_are_text(bench: Bench, fields: Sequence[str]) -> None:
    contact = bench.contact()
    conversation = bench.conversation(contact, 0)
    ids = []
    for number in range(6):
        message = bench.message(number, contactId=contact, conversationId=conversation)
        ids.append(message["_id"])
        if number % 2:
            message |= {name: str(message[name]) for name in fields}
        bench.database.messages.insert_one(message)
    (key,) = bench.accepted(bench.asked(contact, messageIds=ids))
    assert RequestChecks(bench.connections)([bench.entry(key)]) == [None]
    assert contents(bench, key) == ALL


def test_text_ids_of_another_organization_or_contact_are_not_read(bench: Bench) -> None:
    contact, stranger = bench.contact(), bench.contact()
    conversation = bench.conversation(contact, 1)
    elsewhere = str(ObjectId())
    foreign = [
        bench.message(5, organizationId=elsewhere, contactId=str(contact), conversationId=str(conversation)),
        bench.message(6, contactId=str(stranger)),
    ]
    bench.database.messages.insert_many(foreign)
    bench.database.contacts.insert_one({"_id": (hidden := ObjectId()), "organizationId": elsewhere})
    whole, one, named, missing = bench.accepted(
        bench.asked(contact),
        bench.asked(contact, conversationId=conversation),
        bench.asked(contact, messageIds=[message["_id"] for message in foreign]),
        bench.asked(hidden),
    )
    assert contents(bench, whole) == contents(bench, one) == ["Hello 0"]
    found = fetched(bench, named, missing)
    assert isinstance(found[named], MessagesNotFound)
    assert isinstance(found[missing], ContactNotFound)


def test_text_that_is_no_id_changes_nothing(bench: Bench) -> None:
    contact = bench.contact()
    conversation = bench.conversation(contact, 2)
    bench.database.messages.insert_many(
        [bench.message(3, contactId=contact, conversationId="room"), bench.message(4, contactId="x", conversationId="")]
    )
    whole, one = bench.accepted(bench.asked(contact), bench.asked(contact, conversationId=conversation))
    assert contents(bench, whole) == ["Hello 0", "Hello 1", "Hello 3"]
    assert contents(bench, one) == ["Hello 0", "Hello 1"]


ODD_IDS: list[Any] = [
    {"room": 1},
    Decimal128("1"),
    DBRef("rooms", {"room": 1}),
    MinKey(),
    datetime(2026, 1, 1, tzinfo=UTC),
]


@pytest.mark.parametrize("odd", ODD_IDS, ids=lambda odd: type(odd).__name__)
def test_ids_of_any_type_stop_no_request(bench: Bench, odd: Any) -> None:
    """Some of them cannot be keys of a dict."""
    contact = bench.contact()
    conversation = bench.conversation(contact, 2)
    ids = {"organizationId": bench.organization, "contactId": contact}
    bench.database.conversations.insert_one({"_id": odd, **ids})
    bench.database.conversations.insert_one({**ids, "contactId": [odd, contact]})
    bench.database.messages.insert_many(
        [
            bench.message(3, _id=odd, contactId=contact, conversationId=odd),
            bench.message(4, conversationId=conversation),
            bench.message(5, contactId=odd, conversationId=odd),
        ]
    )
    named = [message["_id"] for message in bench.database.messages.find({"_id": {"$type": "objectId"}})]
    whole, one, chosen = bench.accepted(
        bench.asked(contact),
        bench.asked(contact, conversationId=conversation),
        bench.asked(contact, messageIds=named[:2]),
    )
    assert contents(bench, whole) == ["Hello 0", "Hello 1", "Hello 3", "Hello 4"]
    assert contents(bench, one) == ["Hello 0", "Hello 1", "Hello 4"]
    assert contents(bench, chosen)
    assert RequestChecks(bench.connections)(bench.entries([whole, one, chosen])) == [None] * 3
    assert Run(bench.service)([whole, one, chosen]).completed == 3


@pytest.mark.parametrize("text", [str, lambda key: str(key).upper()], ids=["lower case", "upper case"])
def test_user_and_contact_whose_ids_are_text_are_shown_with_a_snapshot(
    bench: Bench, text: Callable[[ObjectId], str]
) -> None:
    contact, user = ObjectId(), ObjectId()
    for collection, key in ((bench.database.contacts, contact), (bench.database.users, user)):
        collection.insert_one({"_id": text(key), "organizationId": text(bench.organization), "firstName": "Priya"})
    snapshot = {"contactId": contact, "userId": user}
    (shown,) = Populator(bench.connections)(bench.organization, [snapshot])
    assert {name: shown[name]["_id"] for name in snapshot} == snapshot
    assert [shown[name]["firstName"] for name in snapshot] == ["Priya", "Priya"]
    (strange,) = Populator(bench.connections)(ObjectId(), [snapshot])
    assert strange == {"contactId": None, "userId": None}
