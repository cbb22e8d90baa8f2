"""POST /api/training/snapshots."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from support.contacts import contact_with
from support.http import SNAPSHOTS
from support.served import Served
from support.waiting import eventually
from worker.sweep.retention import Retention

HEX = re.compile(r"[0-9a-f]{24}")
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def post(served: Served, body: Any, **headers: str) -> Any:
    return served.http.post(SNAPSHOTS, json=body, headers=headers)


def whole(served: Served, **more: Any) -> dict[str, Any]:
    return {"contactId": str(served.contact.id), **more}


def test_example_of_the_specification_gets_the_specified_answer(served: Served) -> None:
    conversation = served.contact.conversations[0]
    messages = [str(each) for each in served.contact.messages[conversation][:2]]
    body = {
        "contactId": str(served.contact.id),
        "messageIds": messages,
        "notes": "Excellent handling of a billing question",
        "tags": ["billing", "resolved"],
        "quality": "excellent",
        "category": "customer_support",
    }
    posted = served.as_("USER").post(SNAPSHOTS, json=body)
    answer = posted.json()
    assert posted.status_code == 201
    assert (answer["success"], answer["message"]) == (True, "Training snapshot created successfully")
    document = answer["data"]
    for name in ("_id", "organizationId", "userId", "contactId"):
        assert HEX.fullmatch(document[name]), name
    dates = ("snapshotDate", "conversationStartDate", "conversationEndDate", "createdAt", "updatedAt")
    for name in dates:
        assert DATE.fullmatch(document[name]), name
    assert document["conversationStartDate"] == "2026-05-13T13:14:57.199Z"
    assert document["conversationEndDate"] == "2026-05-13T13:14:58.199Z"
    assert {name: document[name] for name in body if name != "messageIds"} == {
        name: value for name, value in body.items() if name != "messageIds"
    }
    assert (document["customerName"], document["customerEmail"]) == ("Priya Holloway", "priya@example.com")
    assert document["customerPhone"] is None
    assert (document["messageCount"], document["isArchived"], document["__v"]) == (2, False, 0)
    assert (document["trigger"], document["supersedes"], document["conversationId"]) == ("api", None, None)
    assert re.fullmatch("[0-9a-f]{64}", document["contentHash"])
    assert document["messages"] == [
        {
            "id": messages[number],
            "content": f"Grüße {number} 😀",
            "sender": "contact",
            "senderType": "CONTACT",
            "timestamp": f"2026-05-13T13:14:5{7 + number}.199Z",
        }
        for number in range(2)
    ]
    stored = served.database.trainingsnapshots.find_one({"_id": ObjectId(document["_id"])})
    assert stored is not None
    assert set(document) == set(stored)


def test_without_message_ids_the_snapshot_has_all_messages_of_the_contact_or_conversation(served: Served) -> None:
    assert served.create()["messageCount"] == 5
    conversation = str(served.contact.conversations[1])
    made = served.create(conversationId=conversation)
    assert (made["messageCount"], made["conversationId"]) == (2, conversation)


def strangers(served: Served) -> dict[str, dict[str, Any]]:
    other = contact_with(served.database, 1)
    foreign = [str(each) for messages in other.messages.values() for each in messages]
    return {
        "contact_not_found": {"contactId": str(other.id)},
        "conversation_not_found": whole(served, conversationId=str(other.conversations[0])),
        "messages_not_found": whole(served, messageIds=foreign),
    }


@pytest.mark.parametrize("code", ["contact_not_found", "conversation_not_found", "messages_not_found"])
def test_ids_of_another_organization_are_not_found_and_leave_nothing_behind(served: Served, code: str) -> None:
    before = served.database.snapshotrequests.count_documents({})
    answer = post(served, strangers(served)[code])
    assert (answer.status_code, answer.json()["code"]) == (404, code)
    missing = post(served, {name: _unknown(value) for name, value in strangers(served)[code].items()})
    assert missing.status_code == 404
    assert served.database.snapshotrequests.count_documents({}) == before


def _unknown(value: Any) -> Any:
    return [str(ObjectId())] if isinstance(value, list) else str(ObjectId())


INVALID = [
    ({}, "contactId"),
    ({"contactId": {"$gt": ""}}, "contactId"),
    ({"contactId": {"$ne": None}}, "contactId"),
    ({"contactId": 5}, "contactId"),
    ({"contactId": "6a1b2c3d4e5f60718293a4b"}, "contactId"),
    ({"messageIds": {"$in": []}}, "messageIds"),
    ({"messageIds": []}, "messageIds"),
    ({"notes": {"$regex": "."}}, "notes"),
    ({"notes": "a\u0000b"}, "notes"),
    ({"notes": "a" * 10_001}, "notes"),
    ({"tags": [{"$gt": ""}]}, "tags.0"),
    ({"tags": "billing"}, "tags"),
    ({"quality": ["good"]}, "quality"),
    ({"$where": "sleep(1000)"}, "$where"),
    ({"organizationId": "6a1b2c3d4e5f60718293a4b5"}, "organizationId"),
    ({"userId": "6a1b2c3d4e5f60718293a4b5"}, "userId"),
    ({"requestId": "mine"}, "requestId"),
]


@pytest.mark.parametrize(("fields", "field"), INVALID, ids=[f"{field}-{n}" for n, (_, field) in enumerate(INVALID)])
def test_invalid_body_is_refused_by_field_and_leaves_nothing_behind(
    served: Served, fields: dict[str, Any], field: str
) -> None:
    before = served.database.snapshotrequests.count_documents({})
    body = {"contactId": str(served.contact.id), **fields} if fields else {}
    answer = post(served, body)
    assert answer.status_code == 400, answer.text
    refusal = answer.json()
    assert (refusal["success"], refusal["code"]) == (False, "invalid_request")
    assert [each["field"] for each in refusal["errors"]] == [field]
    assert served.database.snapshotrequests.count_documents({}) == before


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'"text"', b"null", b'{"contactId": NaN}', b"\xff", b"[" * 5000, b'{"a":"\\ud800"}']
)
def test_body_that_is_not_a_json_object_is_refused(served: Served, content: bytes) -> None:
    answer = served.http.post(SNAPSHOTS, content=content)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "body")


def test_body_over_the_limit_is_413_with_and_without_a_declared_length(served: Served) -> None:
    large = b'{"notes": "' + b"a" * 1_100_000 + b'"}'
    assert served.http.post(SNAPSHOTS, content=large).status_code == 413
    assert served.http.post(SNAPSHOTS, content=iter([large[:600_000], large[600_000:]])).status_code == 413


def test_message_that_names_several_conversations_is_not_found(served: Served) -> None:
    ids = {"organizationId": served.organization}
    message = {"_id": ObjectId(), **ids, "conversationId": [ObjectId(), ObjectId()], "content": "x"}
    served.database.messages.insert_one(message)
    answer = post(served, whole(served, messageIds=[str(message["_id"])]))
    assert (answer.status_code, answer.json()["code"]) == (404, "messages_not_found")


def test_empty_conversation_fails_and_a_later_get_gives_the_same_answer(served: Served) -> None:
    answer = post(
        served, whole(served, conversationId=str(served.contact.conversations[2])), **{"Idempotency-Key": "e"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "empty_conversation")
    entry = served.database.snapshotrequests.find_one({"requestId": "e"})
    assert entry is not None
    assert served.http.get(f"{SNAPSHOTS}/{entry['_id']}").json() == answer.json()


def test_respond_async_is_accepted_with_a_location_that_later_has_the_snapshot(served: Served) -> None:
    answer = post(served, whole(served), Prefer="respond-async")
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.json()["data"]["status"] == "accepted"
    place = answer.headers["location"]
    eventually(lambda: served.http.get(place).status_code == 200)
    assert served.http.get(place).json()["data"]["_id"] == answer.json()["data"]["_id"]


def test_repeated_key_gives_the_first_snapshot(served: Served) -> None:
    first = post(served, whole(served, notes="one"), **{"Idempotency-Key": "repeated"})
    again = post(served, whole(served, notes="one"), **{"Idempotency-Key": "repeated"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    other = post(served, whole(served, notes="two"), **{"Idempotency-Key": "repeated"})
    assert (other.status_code, other.json()["code"]) == (409, "request_id_conflict")
    assert served.http.delete(f"{SNAPSHOTS}/{first.json()['data']['_id']}").status_code == 200
    gone = post(served, whole(served, notes="one"), **{"Idempotency-Key": "repeated"})
    assert (gone.status_code, gone.json()["code"]) == (404, "deleted")


@pytest.mark.parametrize("prefer", ["respond-async", "wait=0", "wait=5"])
def test_repeated_key_gives_the_first_snapshot_also_after_retention(served: Served, prefer: str) -> None:
    headers = {"Idempotency-Key": f"stripped {prefer}"}
    first = post(served, whole(served), **headers)
    key = ObjectId(first.json()["data"]["_id"])
    served.database.snapshotrequests.update_one({"_id": key}, {"$unset": {"unsent": ""}})
    finished = served.running.bench.entry(key)["finishedAt"]
    strip = Retention(served.running.bench.service).strip
    assert strip(finished, finished + timedelta(milliseconds=1), 10)[0] >= 1
    again = post(served, whole(served), Prefer=prefer, **headers)
    assert (again.status_code, again.json()) == (200, first.json())


def test_repeated_key_gives_the_first_snapshot_also_when_the_contact_is_gone(served: Served) -> None:
    contact = contact_with(served.database, 1, organization=served.organization)
    body = {"contactId": str(contact.id)}
    first = post(served, body, **{"Idempotency-Key": "gone"})
    served.database.contacts.delete_one({"_id": contact.id})
    again = post(served, body, **{"Idempotency-Key": "gone"})
    assert (again.status_code, again.json()) == (200, first.json())


@pytest.mark.parametrize("key", ["stream:1-0", "task:x", "resolved:x", "all:x", "k" * 201, "", "Grüße"])
def test_invalid_idempotency_key_is_refused(served: Served, key: str) -> None:
    headers: Any = {"Idempotency-Key": key.encode()}
    answer = served.http.post(SNAPSHOTS, json=whole(served), headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "Idempotency-Key")


def test_200_concurrent_posts_with_one_key_make_one_snapshot(served: Served) -> None:
    headers = {"Idempotency-Key": "all at once"}
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda _: post(served, whole(served, notes="n"), **headers), range(200)))
    statuses = sorted(each.status_code for each in answers)
    assert statuses == [200] * 199 + [201]
    assert len({each.text for each in answers}) == 1
    assert served.database.trainingsnapshots.count_documents({"requestId": "all at once"}) == 1
    assert served.database.snapshotrequests.count_documents({"requestId": "all at once"}) == 1


def test_concurrent_posts_each_get_their_own_answer(served: Served) -> None:
    bodies = [whole(served, notes=str(number)) for number in range(30)]
    bodies += [{"contactId": str(ObjectId())} for _ in range(10)]
    bodies += [whole(served, conversationId=str(served.contact.conversations[2])) for _ in range(10)]
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda body: post(served, body), bodies))
    assert [each.status_code for each in answers] == [201] * 30 + [404] * 10 + [400] * 10
    assert [each.json()["data"]["notes"] for each in answers[:30]] == [str(number) for number in range(30)]
