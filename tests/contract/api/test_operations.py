"""What the operations pages show, and to whom."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
from bson import ObjectId

from support.contacts import contact_with
from support.http import api, bearer, token
from support.operations import ROOT, browser, failed, form_of, ledger, listed, newest, reject, send
from support.served import Served
from support.waiting import eventually

LOGIN, REQUESTS, REJECTED = f"{ROOT}/login", f"{ROOT}/requests", f"{ROOT}/rejected"


def test_admin_sees_and_redrives_its_own_organization_alone(served: Served, own: ObjectId, admin: httpx.Client) -> None:
    mine = failed(served.database, own, ObjectId())
    other = ObjectId()
    theirs = failed(served.database, other, ObjectId())
    reason = {"code": "invalid_request", "message": "theirs", "details": {}}
    entries = []
    for owner in (other, None):
        fields = {"type": "snapshot.requested", "data": json.dumps({"organizationId": str(owner)})}
        reject(served, reason, fields, f"{ObjectId()}")
        entries.append(newest(served))
    for path in (ROOT, REQUESTS, REJECTED):
        page = admin.get(path)
        assert page.status_code == 200
        assert str(other) not in page.text
        assert str(theirs) not in page.text
    assert listed(admin.get(REQUESTS)) == [str(mine)]
    assert admin.get(f"{REQUESTS}/{theirs}").status_code == 404
    assert admin.get(REQUESTS, params={"organization": str(other)}).status_code == 403
    for entry in entries:
        assert admin.get(f"{REJECTED}/{entry}").status_code == 404
    form = form_of(admin.get(REQUESTS), f"{ROOT}/redrive")
    confirm = send(admin, form, id=[str(theirs), str(mine)])
    assert "Redrive 1 failed request?" in confirm.text
    send(admin, form_of(confirm, f"{ROOT}/redrive/confirmed"))
    assert (ledger(served, mine)["round"], ledger(served, theirs)["round"]) == (1, 0)
    assert admin.get(f"{ROOT}/redriven", params={"ids": str(theirs)}).text.count(str(theirs)) == 0
    with browser(served.url, token(own, operator=True)) as operator:
        eventually(lambda: str(other) in operator.get(ROOT).text)  # it is reused for 3 s, and other tests request it
        assert listed(operator.get(REQUESTS, params={"organization": str(other)})) == [str(theirs)]
        assert operator.get(f"{REJECTED}/{entries[0]}").status_code == 200
    for claim in ("true", 1, [True], {"a": 1}):
        headers = bearer(token(own, operator=claim))
        assert httpx.get(f"{served.url}{REQUESTS}/{theirs}", headers=headers).status_code == 404


def test_overview_shows_counts_identity_and_the_last_hour(served: Served, own: ObjectId, admin: httpx.Client) -> None:
    contact = contact_with(served.database, 2, 0, organization=own)
    full, empty = contact.conversations
    for conversation in (full, empty):
        body = {"contactId": str(contact.id), "conversationId": str(conversation)}
        httpx.post(f"{served.url}/api/training/snapshots", json=body, headers=bearer(token(own)), timeout=30)

    def numbers() -> bool:
        page = admin.get(ROOT).text
        cells = dict(re.findall(r'data-label="([A-Za-z ]+)">(?:<[^>]+>)*([0-9,a-z]+)', page))
        expected = {"Accepted": "2", "Completed": "1", "Failed": "1", "In flight": "0", "Snapshots": "1"}
        assert {name: cells[name] for name in expected} == expected
        assert cells["Identity"] == "holds"
        assert "1 request completed and 1 failed in the last hour" in page
        assert re.search(r"The median is \d+(\.\d+)? m?s;", page)
        return True

    eventually(numbers, 45, 0.2)


# --- what is shown ----------------------------------------------------------------------------------------


def test_every_value_is_escaped_and_no_page_has_a_script(served: Served, own: ObjectId) -> None:
    attack = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7777 * 7 }}"
    error = {"code": attack, "message": attack, "details": {"missing": [attack]}}
    key = failed(served.database, own, ObjectId(), requestId=attack, error=error, trigger=attack, queue=attack)
    fields = {
        "type": attack,
        "data": json.dumps({"organizationId": str(own), "notes": f"</textarea>{attack}"}),
    }
    reject(served, error, fields, attack)
    entry = newest(served)
    served.running.redis.xadd("snapshots:rejected", {"reason": "[1]", "entry": b"\xff", b"origin": b"\xff\xfe"})
    deep = "[" * 100_000
    for original in (deep, json.dumps({"type": "snapshot.requested", "data": deep}), json.dumps({"args": 5})):
        served.running.redis.xadd("snapshots:rejected", {"reason": deep, "entry": original, "origin": "task:1"})
    with browser(served.url, token(own, operator=True)) as client:
        paths = [ROOT, f"{REQUESTS}?organization={own}", f"{REQUESTS}/{key}", f"{ROOT}/redriven?ids={key}", REJECTED]
        hostile: Any = served.running.redis.xrevrange("snapshots:rejected", count=4)
        paths += [f"{REJECTED}/{key.decode()}" for key, _ in hostile]
        pages = [client.get(path) for path in [*paths, f"{REJECTED}/{entry}", f"{LOGIN}?next={attack}"]]
        pages.append(client.get(f"{REQUESTS}?status={attack}"))
        pages.append(client.get(f"{ROOT}/{attack}"))
    for page in pages:
        assert page.status_code in {200, 400, 404}
        assert "<script" not in page.text
        assert "<img src=x" not in page.text
        assert not re.search(r"&(amp;)+lt;|54439", page.text), "escaped twice, or evaluated"
        assert not re.search(r"\s(on\w+|style)=", re.sub(r"&lt;.*?&gt;", "", page.text))
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "no-store" in page.headers["cache-control"]
        assert page.headers["x-content-type-options"] == "nosniff"


def test_personal_data_is_shown_only_on_the_page_of_a_rejected_entry(
    served: Served, own: ObjectId, admin: httpx.Client
) -> None:
    notes = "call Priya Holloway at +1 555 0100"
    key = failed(served.database, own, ObjectId(), notes=notes, tags=["priya@example.com"])
    body = json.dumps({"organizationId": str(own), "notes": notes, "tags": "x"})
    reason = {"code": "invalid_request", "message": "The request is not valid: tags: should be an array", "details": {}}
    reject(served, reason, {"type": "snapshot.requested", "data": body}, "5-0")
    entry = newest(served)
    for path in (ROOT, REQUESTS, f"{REQUESTS}/{key}", f"{ROOT}/redriven?ids={key}", REJECTED):
        page = admin.get(path).text
        assert "Priya" not in page
        assert "priya@" not in page
        assert "555" not in re.sub(r"[0-9a-f]{24}|\d{13}-\d+", "", page)  # ids of requests and of entries
    assert notes in admin.get(f"{REJECTED}/{entry}").text


def test_list_is_filtered_by_code_and_time_and_has_pages(served: Served, own: ObjectId, admin: httpx.Client) -> None:
    keys = [failed(served.database, own, ObjectId()) for _ in range(60)]
    old = served.running.bench.ago(hours=3)
    error = {"code": "empty_conversation", "message": "m", "details": {}}
    lone = failed(served.database, own, ObjectId(), error=error, finishedAt=old, acceptedAt=old)
    page = admin.get(REQUESTS)
    assert re.search(r"<code>contact_not_found</code></a>\s*<span class=\"number\">60<", page.text)
    assert listed(admin.get(REQUESTS, params={"code": "empty_conversation"})) == [str(lone)]
    assert listed(admin.get(REQUESTS, params={"code": "empty_conversation", "age": "1h"})) == []
    to = f"{served.running.bench.ago(hours=2):%Y-%m-%dT%H:%M}"
    assert listed(admin.get(REQUESTS, params={"to": to})) == [str(lone)]
    found = listed(page)
    while following := re.search(r'rel="next" href="([^"]+)"', page.text):
        page = admin.get(following[1].replace("&amp;", "&"))
        found += listed(page)
    assert found == [str(each) for each in sorted([*keys, lone], reverse=True)]
    for wrong in ({"code": "A b"}, {"age": "2y"}, {"from": "yesterday"}, {"after": "x"}, {"status": "gone"}):
        answer = admin.get(REQUESTS, params=wrong)
        assert (answer.status_code, next(iter(wrong)) in answer.text) == (400, True)


def test_request_shows_attempts_and_reasons(served: Served, own: ObjectId, admin: httpx.Client) -> None:
    last = {"code": "deadline_exceeded", "message": "The run exceeded its deadline.", "details": {}}
    error = {"code": "retries_exhausted", "message": "Too often.", "details": {"attempts": 8}}
    key = failed(served.database, own, ObjectId(), attempts=7, lastError=last, error=error, round=2)
    page = admin.get(f"{REQUESTS}/{key}").text
    assert all(text in page for text in ("retries_exhausted", "deadline_exceeded", "redriven 2 times"))
    assert "in Flower" not in page
    assert re.search(r"<dt>Attempts</dt><dd>8</dd>", page)


# --- while Redis cannot be reached ------------------------------------------------------------------------


def test_overview_works_without_redis_and_requests_link_to_flower(
    served: Served, tmp_path: Path, own: ObjectId
) -> None:
    key = failed(served.database, own, ObjectId())
    away = served.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    flower = {"FLOWER_URL": "https://flower.example/f/"}
    with (
        api(away, tmp_path, flower) as (url, _),
        httpx.Client(base_url=url, headers=bearer(token(own)), timeout=30) as client,
    ):
        page = client.get(ROOT)
        assert (page.status_code, "Redis cannot be reached" in page.text) == (200, True)
        problem = client.get(REJECTED)
        assert (problem.status_code, "broker_unavailable" in problem.text) == (503, True)
        link = f"https://flower.example/f/tasks?name=snapshots.create%20{key}"
        assert f'href="{link}"' in client.get(f"{REQUESTS}/{key}").text
