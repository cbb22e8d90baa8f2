"""Erasures over HTTP, with a real worker."""

from bson import ObjectId

from support.contacts import contact_with
from support.http import SNAPSHOTS
from support.served import Served

CONTACTS, ERASURES = "/api/training/contacts", "/api/training/erasures"


def test_contact_is_erased_and_kept_out(served: Served) -> None:
    contact = contact_with(served.database, 2)
    body = {"contactId": str(contact.id), "conversationId": str(contact.conversations[0])}
    client = served.as_("ADMIN", contact.organization)
    assert client.post(SNAPSHOTS, json=body).status_code == 201
    answer = client.delete(f"{CONTACTS}/{contact.id}")
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"{ERASURES}/{answer.json()['data']['_id']}"
    refused = client.post(SNAPSHOTS, json=body)
    assert (refused.status_code, refused.json()["code"]) == (410, "erased")
    shown = client.get(answer.headers["Location"])
    assert (shown.status_code, shown.json()["data"]["subject"]) == (200, answer.json()["data"]["subject"])
    assert str(contact.id) not in shown.text


def test_mentions_are_redacted_if_the_query_says_so(served: Served) -> None:
    contact = contact_with(served.database, 2)
    client = served.as_("ADMIN", contact.organization)
    refused = client.delete(f"{CONTACTS}/{contact.id}", params={"redactMentions": "yes"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "redactMentions")
    assert client.delete(f"{CONTACTS}/{contact.id}", params={"mentions": "true"}).status_code == 400
    answer = client.delete(f"{CONTACTS}/{contact.id}", params={"redactMentions": "true"})
    assert answer.status_code == 202
    job = served.database.snapshotjobs.find_one({"_id": ObjectId(answer.json()["data"]["_id"])})
    assert job
    assert job["spec"]["redactMentions"] is True


def test_contact_of_another_organization_is_not_found(served: Served) -> None:
    contact = contact_with(served.database, 2)
    stranger = served.as_("ADMIN", ObjectId())
    assert stranger.delete(f"{CONTACTS}/{contact.id}").status_code == 404
    assert stranger.delete(f"{CONTACTS}/{ObjectId()}").status_code == 404
    reader = served.as_("AGENT", contact.organization)
    assert reader.delete(f"{CONTACTS}/{contact.id}").status_code == 403
