"""Reading the platform: the server's shape equals ours, and the right messages are read."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from support.fetching import contents, fetched, messages_of
from support.ledger import START, Bench
from worker.domain.assembly import Conversation, encode_messages
from worker.errors import MessagesNotFound
from worker.source.single import measure
from worker.stores.connections import PLAIN

pytestmark = pytest.mark.usefixtures("indexed")


# --- the server's shape equals ours ----------------------------------------------------------------------------

_times = st.one_of(
    st.sampled_from([START, START + timedelta(seconds=1)]),
    st.datetimes(
        min_value=datetime(1900, 1, 1),  # noqa: DTZ001 - Hypothesis adds the zone
        max_value=datetime(2200, 1, 1),  # noqa: DTZ001
        timezones=st.just(UTC),
    ),
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=5), below, max_size=3
        )
    ),
    max_leaves=6,
)
_text = st.text(st.characters(codec="utf-8"), max_size=30)
_regular = st.one_of(
    st.fixed_dictionaries(
        {"content": _text, "createdAt": _times, "direction": st.sampled_from(["inbound", "outbound"])},
        optional={"isAIGenerated": st.booleans(), "attachments": st.just([{"url": "x"}])},
    ),
    st.fixed_dictionaries(
        {
            "content": _text,
            "timestamp": _times,
            "sender": st.sampled_from(["user", "contact", "bot"]),
            "senderType": st.sampled_from(["AI", "HUMAN", "CONTACT"]),
        }
    ),
    st.fixed_dictionaries(
        {"content": _text, "timestamp": _times, "sender": st.sampled_from(["user", "contact"])},
        optional={"createdAt": _times},
    ),
)
_odd = st.fixed_dictionaries(
    {},
    optional={
        "content": _json,
        "timestamp": st.one_of(_times, _json, st.just("2026-05-18T14:30:00Z")),
        "createdAt": st.one_of(_times, st.none()),
        "sender": st.one_of(st.sampled_from(["user", "contact"]), _json),
        "senderType": _json,
        "direction": st.one_of(st.sampled_from(["inbound", "outbound"]), _json),
        "isAIGenerated": _json,
    },
)
_conversations = st.lists(
    st.one_of(st.lists(_regular, max_size=5), st.lists(st.one_of(_regular, _odd), max_size=4)), min_size=1, max_size=4
)


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(conversations=_conversations)
def test_server_shapes_messages_to_the_same_bytes_as_the_worker(
    bench: Bench, conversations: list[list[dict[str, Any]]]
) -> None:
    contact = bench.contact()
    kept = [bench.conversation(contact, 0) for _ in conversations]
    documents = [
        {
            "_id": ObjectId(),
            "organizationId": bench.organization,
            "contactId": contact,
            "conversationId": conversation,
            **each,
        }
        for conversation, messages in zip(kept, conversations, strict=True)
        for each in messages
    ]
    if documents:
        bench.database.messages.insert_many(documents)
    keys = bench.accepted(*(bench.asked(contact, conversationId=each) for each in kept), bench.asked(contact))
    found = fetched(bench, *keys)
    stored = bench.database.messages.with_options(codec_options=PLAIN)
    for key, conversation in zip(keys, [*kept, None], strict=True):
        condition = {"contactId": contact} | ({"conversationId": conversation} if conversation else {})
        got = found[key]
        assert isinstance(got, Conversation)
        assert got.messages == encode_messages(list(stored.find(condition)))
        assert measure(bench.connections, condition) <= (len(got.messages.encoded) if got.messages else 0)


def test_equal_times_are_ordered_by_id(bench: Bench) -> None:
    contact = bench.contact()
    conversation = bench.conversation(contact, 0)
    ids = sorted(ObjectId() for _ in range(20))
    for number in reversed(range(20)):
        bench.database.messages.insert_one(
            bench.message(0, _id=ids[number], content=str(number), contactId=contact, conversationId=conversation)
        )
    (key,) = bench.accepted(bench.asked(contact, conversationId=conversation))
    assert contents(bench, key) == [str(number) for number in range(20)]


# --- which messages ------------------------------------------------------------------------------------------


def test_messages_that_name_only_a_conversation_or_only_a_contact_are_included(bench: Bench) -> None:
    contact, stranger = bench.contact(), bench.contact()
    mine, theirs = bench.conversation(contact, 0), bench.conversation(stranger, 0)
    bench.database.messages.insert_many(
        [
            bench.message(0, content="both", contactId=contact, conversationId=mine),
            bench.message(1, content="contact only", contactId=contact),
            bench.message(2, content="conversation only", conversationId=mine),
            bench.message(3, content="null contact", conversationId=mine, contactId=None),
            bench.message(4, content="a stranger's", conversationId=theirs),
            bench.message(5, content="a stranger's", contactId=stranger),
        ]
    )
    whole, one = bench.accepted(bench.asked(contact), bench.asked(contact, conversationId=mine))
    assert contents(bench, whole) == ["both", "contact only", "conversation only", "null contact"]
    assert contents(bench, one) == ["both", "conversation only", "null contact"]


def test_named_messages_are_returned_in_time_order_and_no_others(bench: Bench) -> None:
    contact = bench.contact()
    conversation = bench.conversation(contact, 0)
    made = [
        bench.message(2, content="c", contactId=contact),
        bench.message(1, content="b", conversationId=conversation),
        bench.message(0, content="a", contactId=contact, conversationId=conversation),
        bench.message(3, content="not asked for", contactId=contact),
    ]
    bench.database.messages.insert_many(made)
    (key,) = bench.accepted(bench.asked(contact, messageIds=[each["_id"] for each in made[:3]]))
    assert contents(bench, key) == ["a", "b", "c"]


def test_missing_and_foreign_message_ids_are_listed_in_the_error(bench: Bench) -> None:
    contact, stranger = bench.contact(), bench.contact()
    mine = bench.message(0, contactId=contact)
    foreign = bench.message(1, contactId=stranger)
    through = bench.message(2, conversationId=bench.conversation(stranger, 0))
    elsewhere = bench.message(3, contactId=contact, organizationId=ObjectId())
    bench.database.messages.insert_many([mine, foreign, through, elsewhere])
    missing = [foreign["_id"], through["_id"], elsewhere["_id"], ObjectId()]
    (key,) = bench.accepted(bench.asked(contact, messageIds=[mine["_id"], *missing]))
    fault = fetched(bench, key)[key]
    assert isinstance(fault, MessagesNotFound)
    assert fault.details == {"missing": [str(each) for each in missing], "missingCount": 4}


def test_ten_thousand_messages_are_read(bench: Bench) -> None:
    contact = bench.contact()
    conversation = bench.conversation(contact, 10_000)
    ids = bench.database.messages.distinct("_id", {"conversationId": conversation})
    keys = bench.accepted(
        bench.asked(contact, conversationId=conversation), bench.asked(contact, messageIds=ids), bench.asked(contact)
    )
    found = [messages_of(bench, key) for key in keys]
    assert found[0] is not None
    assert found[0].count == 10_000
    assert found[0] == found[1] == found[2]


def test_messages_with_several_owners_do_not_break_the_chunk(bench: Bench) -> None:
    """An array matches each owner in it, but the server groups by the whole array."""
    contact, other = bench.contact(), bench.contact()
    mine, theirs = bench.conversation(contact, 1), bench.conversation(other, 1)
    shared = [
        bench.message(10, content="of both contacts", contactId=[contact, other]),
        bench.message(11, content="of both conversations", contactId=contact, conversationId=[mine, theirs, {"x": 1}]),
        bench.message(12, content="of no contact", conversationId=[mine, theirs]),
    ]
    bench.database.messages.insert_many(shared)
    keys = bench.accepted(
        bench.asked(contact),
        bench.asked(other),
        bench.asked(contact, conversationId=mine),
        bench.asked(contact, messageIds=[shared[1]["_id"]]),
    )
    found = fetched(bench, *keys)
    assert [type(each) for each in found.values()] == [Conversation] * 4
    assert "Hello 0" in contents(bench, keys[2])
    assert contents(bench, keys[3]) == ["of both conversations"]


def test_empty_conversation_has_no_messages(bench: Bench) -> None:
    contact = bench.contact()
    keys = bench.accepted(bench.asked(contact, conversationId=bench.conversation(contact, 0)), bench.asked(contact))
    assert [contents(bench, key) for key in keys] == [[], []]


def test_empty_conversations_do_not_disable_index_order(bench: Bench) -> None:
    contact = bench.contact()
    empty = [bench.conversation(contact, 0) for _ in range(10)]
    full = bench.conversation(contact, 0)
    bench.database.messages.insert_one(bench.message(0, conversationId=full, timestamp=START))
    keys = bench.accepted(*(bench.asked(contact, conversationId=each) for each in [*empty, full]))
    fetched(bench, *keys)
    assert bench.service.conversations._index_order_fits


def test_requests_read_one_by_one_tell_too_that_index_order_does_not_fit(bench: Bench) -> None:
    contact = bench.contact()
    keys = bench.accepted(
        *(bench.asked(contact, conversationId=bench.conversation(contact, 1)) for _ in range(11))  # without `timestamp`
    )
    reads: list[bool] = []
    conversations = bench.service.conversations
    aggregate = conversations._aggregate

    def count(*args: Any, **options: Any) -> Any:
        reads.append(conversations._index_order_fits)
        return aggregate(*args, **options)

    conversations._aggregate = count  # type: ignore[method-assign]
    assert [contents(bench, key) for key in keys] == [["Hello 0"]] * 11
    assert len(reads) == 10  # the eleventh needs no second read
