"""The operations pages: redriving failed requests, and resubmitting rejected entries."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from bson import ObjectId

from support.contacts import contact_with
from support.operations import ROOT, failed, form_of, ledger, newest, reject, send
from support.served import Served

LOGIN, REQUESTS, REJECTED = f"{ROOT}/login", f"{ROOT}/requests", f"{ROOT}/rejected"


# --- redrive ----------------------------------------------------------------------------------------------


def test_redrive_of_a_filter_redrives_exactly_the_requests_that_were_counted(
    served: Served, own: ObjectId, admin: httpx.Client
) -> None:
    contact = contact_with(served.database, 2, organization=own).id
    keys = [failed(served.database, own, contact) for _ in range(30)]
    error = {"code": "empty_conversation", "message": "m", "details": {}}
    other = failed(served.database, own, contact, error=error)
    page = admin.get(REQUESTS, params={"code": "contact_not_found"})
    confirm = send(admin, form_of(page, f"{ROOT}/redrive"), all="1")
    assert "Redrive 30 failed requests?" in confirm.text
    assert all(ledger(served, key)["round"] == 0 for key in keys)
    late = failed(served.database, own, contact, finishedAt=served.running.bench.service.clock.now())
    watch = send(admin, form_of(confirm, f"{ROOT}/redrive/confirmed"))
    assert "30 requests redriven" in watch.text
    served.running.finished(keys)
    entries = [ledger(served, key) for key in keys]
    assert {(each["status"], each["round"]) for each in entries} == {("completed", 1)}
    assert [ledger(served, key)["round"] for key in (late, other)] == [0, 0]
    assert "all have an outcome" in admin.get(watch.url.raw_path.decode()).text
    # Sent again, the form finds no failed request.
    again = send(admin, form_of(confirm, f"{ROOT}/redrive/confirmed"))
    assert "There is nothing left to redrive" in again.text


def test_redrive_of_a_selection_redrives_the_selected_requests(
    served: Served, own: ObjectId, admin: httpx.Client
) -> None:
    contact = contact_with(served.database, 2, organization=own).id
    keys = [failed(served.database, own, contact) for _ in range(4)]
    unsent = failed(served.database, own, contact, unsent=True)
    form = form_of(admin.get(REQUESTS), f"{ROOT}/redrive")
    assert sorted(form.boxes) == sorted(map(str, keys))
    nothing = send(admin, form, selected="1")
    assert (nothing.status_code, "select at least one" in nothing.text) == (400, True)
    confirm = send(admin, form, id=[str(keys[0]), str(keys[2]), str(unsent)], selected="1")
    assert "Redrive 2 failed requests?" in confirm.text
    assert "1 cannot be redriven" in confirm.text
    send(admin, form_of(confirm, f"{ROOT}/redrive/confirmed"))
    served.running.finished([keys[0], keys[2]])
    assert [ledger(served, key)["status"] for key in keys] == ["completed", "failed", "completed", "failed"]


# --- rejected entries -------------------------------------------------------------------------------------


def rejected(served: Served, origin: str, kind: str = "snapshot.requested", **data: Any) -> str:
    """Reject an entry and return its id."""
    reason = {"code": "invalid_request", "message": "The request is not valid: contactId: is required", "details": {}}
    fields = {"type": kind, "data": json.dumps(data)}
    reject(served, reason, fields, origin)
    return newest(served)


def test_corrected_entry_is_accepted_once_however_often_it_is_resubmitted(
    served: Served, own: ObjectId, admin: httpx.Client
) -> None:
    contact = contact_with(served.database, 2, organization=own)
    entry = rejected(served, "1716042600000-7", organizationId=str(own), notes="keep me")
    page = admin.get(f"{REJECTED}/{entry}")
    form = form_of(page, f"{REJECTED}/{entry}")
    given = json.loads(dict(form.fields)["data"])
    assert given == {"organizationId": str(own), "notes": "keep me"}
    still = send(admin, form)
    assert (still.status_code, "<code>contactId</code>" in still.text) == (422, True)
    corrected = json.dumps({**given, "contactId": str(contact.id)})

    def once(_: int) -> httpx.Response:
        return send(admin, form, data=corrected)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(once, range(8)))
    assert {each.status_code for each in answers} <= {200, 409}
    (key,) = {each.url.path.rsplit("/", 1)[1] for each in answers if each.status_code == 200}
    other = json.dumps({**given, "contactId": str(contact.id), "notes": "changed", "requestId": "another"})
    assert send(admin, form, data=other).url.path == f"{REQUESTS}/{key}"
    found = list(served.database.snapshotrequests.find({"organizationId": own}))
    assert [(str(each["_id"]), each["requestId"], each["trigger"]) for each in found] == [
        (key, "stream:1716042600000-7", "stream")
    ]
    assert served.running.finished([ObjectId(key)])[0]["status"] == "completed"
    assert not served.running.redis.xrange("snapshots:rejected", entry, entry)
    assert "was accepted as this request" in admin.get(f"{REJECTED}/{entry}", follow_redirects=True).text


def test_faulty_correction_stays_rejected_and_the_page_says_why(
    served: Served, own: ObjectId, admin: httpx.Client
) -> None:
    entry = rejected(served, "1716042600000-8", organizationId=str(own))
    form = form_of(admin.get(f"{REJECTED}/{entry}"), f"{REJECTED}/{entry}")
    contact = str(ObjectId())
    wrong = {
        "not JSON": (422, "should be valid JSON"),
        '"text"': (422, "should be a JSON object"),
        json.dumps({"organizationId": str(ObjectId()), "contactId": contact}): (409, "must name your own organization"),
        json.dumps({"organizationId": str(own), "contactId": contact, "reqestId": "x"}): (422, "reqestId"),
    }
    for data, (status, said) in wrong.items():
        answer = send(admin, form, data=data)
        assert (answer.status_code, said in answer.text) == (status, True), answer.text
    closing = json.dumps({"organizationId": str(own), "conversationId": contact})
    answer = send(admin, form, type="conversation.resolved", data=closing)
    assert (answer.status_code, "not_resolved_yet" in answer.text) == (409, True)
    assert served.running.redis.xrange("snapshots:rejected", entry, entry)
    assert served.database.snapshotrequests.count_documents({"organizationId": own}) == 0
    assert admin.get(f"{REJECTED}/1-99999").status_code == 404


def test_addresses_that_no_page_contains_are_refused(served: Served, own: ObjectId, admin: httpx.Client) -> None:
    for path in (f"{REJECTED}/0-0", f"{REJECTED}/{2**64}-0", f"{REJECTED}?after=0-{2**64}"):
        assert admin.get(path).status_code == 400, path
    proof = dict(form_of(admin.get(REQUESTS), f"{ROOT}/logout").fields)["csrf"]
    for until in ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00.000Z"):
        fields = {"csrf": proof, "all": "1", "age": "1h", "count": "1", "until": until}
        answer = admin.post(f"{ROOT}/redrive/confirmed", data=fields)
        assert (answer.status_code, "until" in answer.text) == (400, True), until


def test_task_rejected_for_its_id_gets_another_request_id(served: Served, own: ObjectId, admin: httpx.Client) -> None:
    contact = contact_with(served.database, 1, organization=own)
    reason = {"code": "invalid_request", "message": "m", "details": {}}
    request = {"organizationId": str(own), "contactId": str(contact.id)}
    reject(served, reason, {"args": [request], "kwargs": {}}, f"task:{'x' * 300}")
    entry = newest(served)
    assert send(admin, form_of(admin.get(f"{REJECTED}/{entry}"), f"{REJECTED}/{entry}")).status_code == 200
    (found,) = served.database.snapshotrequests.find({"organizationId": own})
    assert (found["requestId"], found["trigger"]) == (f"stream:r{entry}", "task")


def test_rejected_task_keeps_its_id_as_request_id(served: Served, own: ObjectId, admin: httpx.Client) -> None:
    contact = contact_with(served.database, 1, organization=own)
    reason = {"code": "invalid_request", "message": "m", "details": {}}
    original = {"args": [{"organizationId": str(own), "contact": "x"}], "kwargs": {}}
    reject(served, reason, original, f"task:{own}")
    entry = newest(served)
    form = form_of(admin.get(f"{REJECTED}/{entry}"), f"{REJECTED}/{entry}")
    data = json.dumps({"organizationId": str(own), "contactId": str(contact.id)})
    assert send(admin, form, data=data).status_code == 200
    (found,) = served.database.snapshotrequests.find({"organizationId": own})
    assert (found["requestId"], found["trigger"]) == (f"task:{own}", "task")
