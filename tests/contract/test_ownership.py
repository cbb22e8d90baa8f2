"""Ownership: a chunk that mixes tenants never reads the contacts, conversations or messages of another one."""

from typing import Any

import pytest
from bson import ObjectId

from support.fetching import contents, fetched
from support.ledger import Bench
from worker.domain.assembly import Conversation
from worker.errors import ContactNotFound, ConversationNotFound, MessagesNotFound, SnapshotError

pytestmark = pytest.mark.usefixtures("indexed")


def summary(found: Conversation | SnapshotError) -> Any:
    """Returns the number of messages, or the class of the error."""
    return type(found) if isinstance(found, SnapshotError) else found.messages.count if found.messages else 0


def test_each_request_of_a_mixed_chunk_gets_its_own_messages(bench: Bench) -> None:
    contact, stranger = bench.contact(), bench.contact()
    one, two = bench.conversation(contact, 2), bench.conversation(contact, 3)
    theirs = bench.conversation(stranger, 1)
    named = [each["_id"] for each in bench.database.messages.find({"conversationId": two}).limit(1)]
    asked = {
        5: bench.asked(contact),
        0: bench.asked(bench.contact()),
        2: bench.asked(contact, conversationId=one),
        3: bench.asked(contact, conversationId=two),
        1: bench.asked(contact, messageIds=named),
        ConversationNotFound: bench.asked(contact, conversationId=theirs),
        ContactNotFound: bench.asked(ObjectId()),
        MessagesNotFound: bench.asked(stranger, messageIds=named),
    }
    keys = bench.accepted(*asked.values())
    found = fetched(bench, *keys)
    assert [summary(found[key]) for key in keys] == list(asked)


def test_contact_of_another_tenant_is_not_found_and_its_messages_are_not_read(bench: Bench) -> None:
    neighbour = bench.another()
    neighbour.organization = ObjectId()
    try:
        theirs = neighbour.contact()
        bench.database.messages.insert_one(bench.message(0, contactId=theirs))
        mine, own = bench.accepted(bench.asked(theirs)), neighbour.accepted(neighbour.asked(theirs))
        found = fetched(bench, *mine, *own)
    finally:
        neighbour.connections.close()
    assert [summary(found[key]) for key in (*mine, *own)] == [ContactNotFound, 0]


def test_messages_without_a_contact_do_not_affect_other_organizations_in_the_chunk(bench: Bench) -> None:
    contact, other_contact = bench.contact(), ObjectId()
    bench.conversation(contact, 2)
    lender = bench.another()
    lender.organization = ObjectId()
    try:
        lender.contact(_id=other_contact)
        lent = lender.conversation(other_contact, 0)
        lender.database.messages.insert_many(
            [lender.message(0, conversationId=lent), lender.message(1, conversationId=ObjectId())]
        )
        (mine,) = bench.accepted(bench.asked(contact))
        (theirs,) = lender.accepted(lender.asked(other_contact))
        found = fetched(bench, mine, theirs)
    finally:
        lender.connections.close()
    counts = {
        key: each.messages.count for key, each in found.items() if isinstance(each, Conversation) and each.messages
    }
    assert counts == {mine: 2, theirs: 1}


def test_another_organizations_documents_with_the_same_ids_are_never_read(bench: Bench) -> None:
    contact = bench.contact()
    conversation = bench.conversation(contact, 2)
    other = ObjectId()
    bench.database.messages.insert_many(
        [
            bench.message(5, content="foreign", organizationId=other, contactId=contact, conversationId=conversation),
            bench.message(6, content="foreign", organizationId=other, conversationId=conversation),
            bench.message(7, content="foreign", organizationId=other, contactId=contact),
        ]
    )
    keys = bench.accepted(bench.asked(contact), bench.asked(contact, conversationId=conversation))
    assert [contents(bench, key) for key in keys] == [["Hello 0", "Hello 1"]] * 2


def test_contact_of_another_organization_is_not_found_in_the_same_chunk_as_its_own(bench: Bench) -> None:
    mine = bench.contact()
    bench.conversation(mine, 1)
    neighbour = bench.another()
    neighbour.organization = ObjectId()
    try:
        theirs = neighbour.contact()
        neighbour.conversation(theirs, 1)
        own, across = bench.accepted(bench.asked(mine), bench.asked(theirs))
        (neighbours,) = neighbour.accepted(neighbour.asked(theirs))
        found = fetched(bench, own, across, neighbours)
    finally:
        neighbour.connections.close()
    assert isinstance(found[own], Conversation)
    assert isinstance(found[neighbours], Conversation)
    assert isinstance(found[across], ContactNotFound)


def test_conversation_of_another_contact_or_organization_is_not_found(bench: Bench) -> None:
    contact, stranger = bench.contact(), bench.contact()
    elsewhere = bench.conversation(contact, 1, organizationId=ObjectId())
    keys = bench.accepted(
        bench.asked(contact, conversationId=bench.conversation(stranger, 1)),
        bench.asked(contact, conversationId=elsewhere),
        bench.asked(contact, conversationId=ObjectId()),
    )
    assert all(isinstance(each, ConversationNotFound) for each in fetched(bench, *keys).values())
