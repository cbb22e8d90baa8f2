"""Listing, showing and exporting snapshots; roles, health and logs."""

from collections.abc import Iterator
from typing import Any

import pytest
from bson import ObjectId

from support.contacts import Contact, contact_with
from support.http import EXPORT, SNAPSHOTS
from support.served import Served
from support.waiting import eventually


@pytest.fixture
def another(served: Served) -> Iterator[Served]:
    """The same processes with a new organization that has no snapshots."""
    first, served.contact = served.contact, contact_with(served.database, 2)
    yield served
    served.contact = first


def listed(served: Served, **query: Any) -> list[dict[str, Any]]:
    answer = served.http.get(SNAPSHOTS, params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def notes(served: Served, **query: Any) -> list[str]:
    return [each["notes"] for each in listed(served, **query)]


def test_list_is_newest_first_with_filters_and_a_total(another: Served) -> None:
    conversation = str(another.contact.conversations[0])
    another.create(notes="one", quality="good", category="billing", tags=["a"])
    another.create(notes="two", quality="bad", category="billing", tags=["a", "b"])
    third = another.create(notes="three (100 %) done.*", conversationId=conversation)
    assert notes(another) == ["three (100 %) done.*", "two", "one"]
    assert notes(another, category="billing") == ["two", "one"]
    assert notes(another, quality="good", category="billing") == ["one"]
    assert notes(another, quality="", category="") == ["three (100 %) done.*", "two", "one"]
    assert notes(another, tag="b") == ["two"]
    assert notes(another, contactId=str(another.contact.id), limit=1) == ["three (100 %) done.*"]
    assert notes(another, contactId=str(ObjectId())) == []
    assert notes(another, conversationId=conversation) == ["three (100 %) done.*"]
    assert notes(another, q="THREE (100 %)") == ["three (100 %) done.*"]
    assert notes(another, q=".*") == ["three (100 %) done.*"]
    assert notes(another, q="t.o") == []
    assert notes(another, **{"from": third["createdAt"]}) == ["three (100 %) done.*"]
    assert notes(another, to=third["createdAt"], limit=1, page=3) == ["one"]
    assert notes(another, to="2020-01-01") == []
    answer = another.http.get(SNAPSHOTS, params={"limit": 2}).json()
    pagination = answer["pagination"]
    assert {name: pagination[name] for name in ("page", "limit", "total", "pages")} == {
        "page": 1,
        "limit": 2,
        "total": 3,
        "pages": 2,
    }


def test_archived_snapshots_are_listed_on_request(another: Served) -> None:
    kept, archived = another.create(notes="kept"), another.create(notes="archived")
    another.http.patch(f"{SNAPSHOTS}/{archived['_id']}", json={"isArchived": True})
    assert notes(another) == ["kept"]
    assert notes(another, isArchived="true") == ["archived"]
    assert notes(another, isArchived="all") == ["archived", "kept"]
    exported = another.http.get(EXPORT).json()
    assert [each["id"] for each in exported["data"]] == [kept["_id"]]


def test_snapshots_made_by_the_platform_are_read_exported_and_deleted_like_ours(another: Served) -> None:
    """Such snapshots have no request. They may lack fields, or have values that only the platform's model permits."""
    ours = another.create(notes="ours", tags=["a"])
    odd: list[dict[str, Any]] = [
        {"notes": "no isArchived, no messages"},
        {"notes": "nulls", "isArchived": None, "messages": None, "tags": None, "createdAt": None},
        {"notes": "odd", "isArchived": False, "messages": [None, 5], "userId": {"a": 1}, "contactId": [1]},
        {"notes": "text as a date", "isArchived": False, "createdAt": "yesterday"},
    ]
    mine = {"organizationId": another.organization}
    stored = [{"_id": ObjectId(), **mine, **each} for each in odd]
    another.database.trainingsnapshots.insert_many(stored)
    expected = sorted(["ours", *(each["notes"] for each in odd)])
    assert sorted(notes(another)) == sorted(notes(another, isArchived="all")) == expected
    for limit in (1, 2, 3):
        assert another.http.get(SNAPSHOTS, params={"limit": limit}).status_code == 200
    exported = another.http.get(EXPORT).json()
    assert exported["totalSnapshots"] == len(exported["data"]) == 5
    assert {str(each["metadata"]["tags"]) for each in exported["data"]} == {"['a']", "[]"}
    for each in stored:
        place = f"{SNAPSHOTS}/{each['_id']}"
        assert another.http.get(place).status_code == 200
        assert another.http.delete(place).status_code == 200
        assert another.http.get(place).status_code == 404
    assert notes(another) == ["ours"]
    # And one of ours that the platform has removed by itself can still be told to be gone.
    another.database.trainingsnapshots.delete_one({"_id": ObjectId(ours["_id"])})
    assert another.http.delete(f"{SNAPSHOTS}/{ours['_id']}").status_code == 200
    assert "deletedAt" in another.running.bench.entry(ObjectId(ours["_id"]))


def test_cursor_returns_each_snapshot_once_while_others_are_added(another: Served) -> None:
    there = [another.create(notes=f"{number}")["_id"] for number in range(7)]
    same_time = another.database.trainingsnapshots.find_one({"_id": ObjectId(there[3])}, {"createdAt": 1})
    assert same_time is not None
    # Ties are told apart by `_id`.
    another.database.trainingsnapshots.update_many(
        {"_id": {"$in": [ObjectId(each) for each in there[2:5]]}}, {"$set": {"createdAt": same_time["createdAt"]}}
    )
    seen: list[str] = []
    after = ""
    while True:
        answer = another.http.get(SNAPSHOTS, params={"limit": 2, "after": after}).json()
        seen += [each["_id"] for each in answer["data"]]
        another.create(notes="added meanwhile")
        after = answer["pagination"]["next"]
        if after is None:
            break
    assert sorted(seen) == sorted(there)


def test_cursor_returns_snapshots_without_a_time_last_and_once(another: Served) -> None:
    there = [another.create(notes=f"{number}")["_id"] for number in range(6)]
    snapshots = another.database.trainingsnapshots
    snapshots.update_many({"_id": {"$in": [ObjectId(each) for each in there[:3]]}}, {"$unset": {"createdAt": ""}})
    snapshots.update_one({"_id": ObjectId(there[3])}, {"$set": {"createdAt": None}})
    seen: list[str] = []
    after = ""
    while after is not None:
        answer = another.http.get(SNAPSHOTS, params={"limit": 2, "after": after}).json()
        seen += [each["_id"] for each in answer["data"]]
        after = answer["pagination"]["next"]
    assert seen == sorted(there, reverse=True)


REFUSED = [
    "quality[$gt]=",
    "quality[$ne]=x",
    "contactId[$gt]=",
    "$where=sleep(1000)",
    "quality=a&quality=b",
    "page=0",
    "page=1e3",
    "limit=101",
    "limit=-1",
    "after=abc",
    "from=yesterday",
    "to=2026-13-01",
    "to=2026-05-18T25:00:00Z",
    "isArchived=maybe",
    "contactId=%7B%22$gt%22:%22%22%7D",
    "q=%00",
    "fields=notes",
]


@pytest.mark.parametrize("query", REFUSED)
def test_operators_and_unknown_parameters_are_refused(served: Served, query: str) -> None:
    answer = served.http.get(f"{SNAPSHOTS}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    if query.startswith("quality"):
        assert served.http.get(f"{EXPORT}?{query}").status_code == 400


def test_user_and_contact_are_populated_on_reading_and_null_once_deleted(another: Served) -> None:
    made = another.create()
    user = {"_id": ObjectId(made["userId"]), "organizationId": another.organization}
    names = {"firstName": "Ana", "lastName": "Whitfield", "email": "ana@example.com"}
    another.database.users.insert_one({**user, **names, "password": "never shown"})
    shown = another.http.get(f"{SNAPSHOTS}/{made['_id']}").json()["data"]
    assert shown["userId"] == {"_id": made["userId"], **names}
    assert shown["contactId"] == {
        "_id": made["contactId"],
        "firstName": "Priya",
        "lastName": "Holloway",
        "phoneNumber": None,
        "email": "priya@example.com",
        "channelType": None,
    }
    assert listed(another)[0] == shown
    another.database.contacts.update_one({"_id": another.contact.id}, {"$set": {"channelTypes": ["whatsapp", "sms"]}})
    assert listed(another)[0]["contactId"]["channelType"] == "whatsapp"
    another.database.contacts.delete_one({"_id": another.contact.id})
    another.database.users.update_one(user, {"$set": {"organizationId": ObjectId()}})
    gone = another.http.get(f"{SNAPSHOTS}/{made['_id']}").json()["data"]
    assert (gone["userId"], gone["contactId"], gone["customerName"]) == (None, None, "Priya Holloway")


def test_snapshot_of_another_organization_is_not_found(served: Served) -> None:
    made = served.create(notes="secret")
    place = f"{SNAPSHOTS}/{made['_id']}"
    stranger = served.as_("ADMIN", ObjectId())
    unknown = stranger.get(f"{SNAPSHOTS}/{ObjectId()}")
    answers = [stranger.get(place), stranger.patch(place, json={"notes": "mine"}), stranger.delete(place)]
    assert [each.status_code for each in answers] == [404] * 3
    assert {each.text for each in answers} == {unknown.text}
    assert stranger.get(SNAPSHOTS, params={"isArchived": "all"}).json()["data"] == []
    assert stranger.get(EXPORT).json()["totalSnapshots"] == 0
    assert served.http.get(place).json()["data"]["notes"] == "secret"


def test_unfinished_request_is_202_and_cannot_be_deleted_yet(served: Served) -> None:
    bench = served.running.bench
    asked = bench.asked(served.contact.id, f"waiting-{ObjectId()}", organizationId=served.organization)
    (key,) = bench.accepted(asked)
    place = f"{SNAPSHOTS}/{key}"
    answer = served.http.get(place)
    assert (answer.status_code, answer.json()["data"]["status"]) == (202, "accepted")
    assert (served.http.delete(place).status_code, served.http.delete(place).json()["code"]) == (409, "not_finished")
    assert served.http.patch(place, json={"notes": "x"}).status_code == 409


def test_export_is_an_attachment_in_the_specified_shape(another: Served) -> None:
    another.create(quality="good", category="x", tags=["a"])
    another.create(quality="bad")
    answer = another.http.get(f"{EXPORT}?quality=good&category=")
    assert answer.headers["content-disposition"].startswith('attachment; filename="training-data-1')
    exported = answer.json()
    assert list(exported) == ["exportDate", "organizationId", "totalSnapshots", "data"]
    assert (exported["organizationId"], exported["totalSnapshots"]) == (str(another.organization), 1)
    (snapshot,) = exported["data"]
    assert snapshot["customer"] == {"name": "Priya Holloway", "phone": None, "email": "priya@example.com"}
    assert snapshot["metadata"] == {"quality": "good", "tags": ["a"], "category": "x", "messageCount": 2}
    assert snapshot["conversation"][0] == {
        "role": "user",
        "content": "Grüße 0 😀",
        "timestamp": "2026-05-13T13:14:57.199Z",
        "senderType": "CONTACT",
    }
    assert another.http.get(EXPORT).json()["totalSnapshots"] == 2


def test_platform_side_is_the_assistant_in_the_export(another: Served) -> None:
    another.database.messages.update_one({"contactId": another.contact.id}, {"$set": {"sender": "user"}})
    another.create()
    conversation = another.http.get(EXPORT).json()["data"][0]["conversation"]
    assert [each["role"] for each in conversation] == ["assistant", "user"]


ROLES = {"ADMIN": "rwde", "manager": "rwde", "USER": "rw", "AGENT": "rw", "VIEWER": "r", "JANITOR": "r", "": "r"}


@pytest.mark.parametrize("role", ROLES)
def test_role_has_the_rights_of_the_table(served: Served, role: str) -> None:
    made = served.create()
    place = f"{SNAPSHOTS}/{made['_id']}"
    own = served.as_(role)
    statuses = {
        "r": [own.get(SNAPSHOTS).status_code, own.get(place).status_code],
        "w": [
            own.post(SNAPSHOTS, json={"contactId": str(served.contact.id)}).status_code,
            own.patch(place, json={"notes": "x"}).status_code,
        ],
        "e": [own.get(EXPORT).status_code],
        "d": [own.delete(place).status_code],
    }
    allowed = {right for right, found in statuses.items() if all(each in (200, 201) for each in found)}
    refused = {right for right, found in statuses.items() if set(found) == {403}}
    assert (allowed, refused) == (set(ROLES[role]), set("rwde") - set(ROLES[role]))


def test_contact_id_of_another_organization_is_not_found(another: Served) -> None:
    """A token of one organization cannot use a contact of another."""
    stranger: Contact = contact_with(another.database, 1)
    answer = another.as_("ADMIN", stranger.organization).post(SNAPSHOTS, json={"contactId": str(another.contact.id)})
    assert answer.status_code == 404


def test_health_readiness_and_metrics_need_no_token_and_show_no_data(served: Served) -> None:
    import httpx

    served.create(notes="a note")
    assert httpx.get(f"{served.url}/healthz").json() == {"status": "ok"}
    ready = {"status": "ready", "mongo": True, "redis": True, "workers": True}
    assert httpx.get(f"{served.url}/readyz").json() == ready
    metrics = httpx.get(f"{served.url}/metrics").text
    assert 'snapshots_http_requests_total{method="POST",route="/api/training/snapshots",status="201"}' in metrics
    assert str(served.organization) not in metrics


def test_log_has_ids_but_no_token_note_or_name(served: Served) -> None:
    served.create(notes="a note that no one may read")
    served.http.get(f"{SNAPSHOTS}/{ObjectId()}", headers={"X-Request-Id": "seen-in-the-log"})
    assert served.process.log is not None
    path = served.process.log  # the line is written after the answer
    line = eventually(lambda: [each for each in path.read_text().splitlines() if "seen-in-the-log" in each])[0]
    log = path.read_text()
    assert str(served.organization) in line
    for secret in ("a note that no one may read", "Priya", "priya@", "eyJ", "Grüße"):
        assert secret not in log
