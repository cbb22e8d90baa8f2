"""The operations page: who may look, and what it shows of whom."""

import json
import re
from pathlib import Path

import httpx
import pytest
from bson import ObjectId

from support import commands
from support.contacts import contact_with
from support.http import api, bearer, token
from support.operations import ROOT, browser, failed, form_of, ledger, listed, newest, reject, send
from support.served import Served
from support.waiting import eventually

LOGIN, REQUESTS, REJECTED = f"{ROOT}/login", f"{ROOT}/requests", f"{ROOT}/rejected"
PAGES = [ROOT, REQUESTS, f"{REQUESTS}/{ObjectId()}", f"{ROOT}/redriven", REJECTED, f"{REJECTED}/1-0", f"{ROOT}/no/such"]
POSTS = [f"{ROOT}/redrive", f"{ROOT}/redrive/confirmed", f"{REJECTED}/1-0", f"{ROOT}/logout"]


# --- who may look -----------------------------------------------------------------------------------------


def test_without_a_token_there_is_only_the_login(served: Served) -> None:
    key = failed(served.database, served.organization, served.contact.id)
    with httpx.Client(base_url=served.url) as client:
        for path in [*PAGES, f"{REQUESTS}/{key}"]:
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, LOGIN)
            assert answer.content == b""
        for path in POSTS:
            answer = client.post(path, data={"id": str(key), "count": "1"})
            assert answer.status_code == 401
            assert str(served.organization) not in answer.text
        assert client.get(ROOT, headers=bearer("x")).status_code == 401
        assert client.get(LOGIN).status_code == 200
    assert ledger(served, key)["status"] == "failed"


@pytest.mark.parametrize("role", ["OWNER", "SUPER_ADMIN", "MANAGER", "USER", "VIEWER", ""])
def test_only_admin_is_let_in(served: Served, role: str) -> None:
    value = token(served.organization, role, operator=True)
    for path in PAGES:
        answer = httpx.get(served.url + path, headers=bearer(value))
        assert answer.status_code == 403
    answer = httpx.post(served.url + LOGIN, data={"token": value})
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert value not in answer.text


def test_login_keeps_the_token_where_no_script_and_no_other_site_gets_it(served: Served) -> None:
    value = token(served.organization)
    plain = httpx.post(served.url + LOGIN, data={"token": f"Bearer {value}", "next": f"{REQUESTS}?code=x"})
    assert (plain.status_code, plain.headers["location"]) == (303, f"{REQUESTS}?code=x")
    cookie = plain.headers["set-cookie"].lower()
    assert all(said in cookie for said in ("httponly", "samesite=strict", "path=/operations"))
    assert "secure" not in cookie
    secure = httpx.post(served.url + LOGIN, data={"token": value}, headers={"X-Forwarded-Proto": "https"})
    assert "secure" in secure.headers["set-cookie"].lower()


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example", "/api", "/operations/../api", LOGIN, "x"])
def test_login_leads_to_a_page_of_ours(served: Served, wanted: str) -> None:
    answer = httpx.post(served.url + LOGIN, data={"token": token(served.organization), "next": wanted})
    location = answer.headers["location"]
    assert location == ROOT or (location.startswith(ROOT) and httpx.URL(served.url).join(location).host == "127.0.0.1")
    assert "login" not in location


def test_invalid_token_is_refused_by_the_form_and_an_expired_cookie_leads_back_to_it(served: Served) -> None:
    for value in ("x", "", token(served.organization, exp=1), "a b", "ü" * 10):
        answer = httpx.post(served.url + LOGIN, data={"token": value})
        assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    long = token(served.organization, filling="x" * 4000)
    assert "too long for a cookie" in httpx.post(served.url + LOGIN, data={"token": long}).text
    with httpx.Client(base_url=served.url, cookies={"snapshots_operations": "expired"}) as client:
        answer = client.get(REQUESTS)
        assert answer.headers["location"] == f"{LOGIN}?next=%2Foperations%2Frequests&ended=1"
        assert "max-age=0" in answer.headers["set-cookie"].lower()


def test_integration_key_opens_it_and_logout_closes_it(served: Served) -> None:
    env = commands.environment(served.settings)
    order = ("keys", "create", "--organization", ObjectId(), "--user", ObjectId(), "--role", "ADMIN", "--operator")
    made = commands.run(env, *order, "--json").json
    assert made["operator"] is True
    with browser(served.url, made["key"]) as client:
        page = client.get(ROOT)
        assert "all organizations" in page.text
        assert send(client, form_of(page, f"{ROOT}/logout")).url.path == LOGIN
        assert client.get(ROOT).status_code == 303
    refused = commands.run(env, *order[:6], "--operator")
    assert (refused.code, "--operator needs --role ADMIN" in refused.stderr) == (2, True)


# --- forms of other sites ---------------------------------------------------------------------------------


def test_form_of_another_site_changes_nothing(served: Served, own: ObjectId, admin: httpx.Client) -> None:
    key = failed(served.database, own, contact_with(served.database, 1, organization=own).id)
    page = admin.get(f"{REQUESTS}/{key}")
    confirm = send(admin, form_of(page, f"{ROOT}/redrive"))
    form = form_of(confirm, f"{ROOT}/redrive/confirmed")
    fields = dict(form.fields)
    with browser(served.url, token(ObjectId())) as other:
        foreign = dict(form_of(other.get(ROOT), f"{ROOT}/logout").fields)["csrf"]
    for proof in ("", "x", "ü", foreign):
        assert admin.post(form.action, data={**fields, "csrf": proof}).status_code == 403
    sites = [{"Sec-Fetch-Site": each} for each in ("cross-site", "same-site")]
    origins = [{"Origin": each} for each in ("https://evil.example", "http://[", "null")]
    for said in sites + origins:
        assert admin.post(form.action, data=fields, headers=said).status_code == 403
        assert httpx.post(served.url + LOGIN, data={"token": token(own)}, headers=said).status_code == 403
    as_json = admin.post(form.action, json=fields)
    assert as_json.status_code == 415
    assert ledger(served, key)["round"] == 0
    assert send(admin, form).status_code == 200
    assert ledger(served, key)["round"] == 1


def test_header_needs_no_proof(served: Served, own: ObjectId) -> None:
    key = failed(served.database, own, contact_with(served.database, 1, organization=own).id)
    with httpx.Client(base_url=served.url, headers=bearer(token(own))) as client:
        confirm = client.post(f"{ROOT}/redrive", data={"id": str(key)})
        assert send(client, form_of(confirm, f"{ROOT}/redrive/confirmed")).status_code == 200
    assert ledger(served, key)["round"] == 1


# --- whose requests ---------------------------------------------------------------------------------------


def test_admin_sees_and_redrives_its_own_organization_alone(served: Served, own: ObjectId, admin: httpx.Client) -> None:
    mine = failed(served.database, own, ObjectId())
    other = ObjectId()
    theirs = failed(served.database, other, ObjectId())
    reason = {"code": "invalid_request", "message": "theirs", "details": {}}
    entries = []
    for each in (other, None):
        fields = {"type": "snapshot.requested", "data": json.dumps({"organizationId": str(each)})}
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
        eventually(lambda: str(other) in operator.get(ROOT).text)  # it is kept for 3 s, and others' tests look at it
        assert listed(operator.get(REQUESTS, params={"organization": str(other)})) == [str(theirs)]
        assert operator.get(f"{REJECTED}/{entries[0]}").status_code == 200
    for claim in ("true", 1, [True], {"a": 1}):
        assert (
            httpx.get(f"{served.url}{REQUESTS}/{theirs}", headers=bearer(token(own, operator=claim))).status_code == 404
        )


def test_overview_shows_counts_identity_and_the_last_hour(served: Served, own: ObjectId, admin: httpx.Client) -> None:
    contact = contact_with(served.database, 2, 0, organization=own)
    full, empty = contact.conversations
    for conversation in (full, empty):
        body = {"contactId": str(contact.id), "conversationId": str(conversation)}
        httpx.post(f"{served.url}/api/training/snapshots", json=body, headers=bearer(token(own)), timeout=30)

    def numbers() -> bool:
        page = admin.get(ROOT).text
        cells = dict(re.findall(r'data-label="([a-z ]+)">(?:<[^>]+>)*([0-9,a-z]+)', page))
        expected = {"accepted": "2", "completed": "1", "failed": "1", "in flight": "0", "snapshots": "1"}
        assert {name: cells[name] for name in expected} == expected
        assert cells["identity"] == "holds"
        assert "1 request completed and 1 failed in the last hour" in page
        assert re.search(r"Median \d+(\.\d+)? m?s over the minutes", page)
        return True

    eventually(numbers, 45, 0.2)


# --- what is shown ----------------------------------------------------------------------------------------


def test_everything_shown_is_escaped_and_no_page_has_a_script(served: Served, own: ObjectId) -> None:
    attack = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7 * 7 }}"
    error = {"code": attack, "message": attack, "details": {"missing": [attack]}}
    key = failed(served.database, own, ObjectId(), requestId=attack, error=error, trigger=attack, queue=attack)
    fields = {
        "type": attack,
        "data": json.dumps({"organizationId": str(own), "notes": f"</textarea>{attack}"}),
    }
    reject(served, error, fields, attack)
    entry = newest(served)
    served.running.redis.xadd("snapshots:rejected", {"reason": "[1]", "entry": b"\xff", b"origin": b"\xff\xfe"})
    with browser(served.url, token(own, operator=True)) as client:
        paths = [ROOT, f"{REQUESTS}?organization={own}", f"{REQUESTS}/{key}", f"{ROOT}/redriven?ids={key}", REJECTED]
        pages = [client.get(path) for path in [*paths, f"{REJECTED}/{entry}", f"{LOGIN}?next={attack}"]]
        pages.append(client.get(f"{REQUESTS}?status={attack}"))
        pages.append(client.get(f"{ROOT}/{attack}"))
    for page in pages:
        assert page.status_code in {200, 400, 404}
        assert "<script" not in page.text
        assert "<img src=x" not in page.text
        assert not re.search(r"\s(on\w+|style)=", re.sub(r"&lt;.*?&gt;", "", page.text))
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "no-store" in page.headers["cache-control"]
        assert page.headers["x-content-type-options"] == "nosniff"


def test_notes_and_message_texts_are_on_no_page_but_that_of_a_rejected_entry(
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
        assert "555" not in re.sub(r"[0-9a-f]{24}", "", page)
    assert notes in admin.get(f"{REJECTED}/{entry}").text


def test_list_is_filtered_by_code_and_time_and_read_page_by_page(
    served: Served, own: ObjectId, admin: httpx.Client
) -> None:
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
    last = {"code": "deadline_exceeded", "message": "The run took longer than its deadline.", "details": {}}
    error = {"code": "retries_exhausted", "message": "Too often.", "details": {"attempts": 8}}
    key = failed(served.database, own, ObjectId(), attempts=7, lastError=last, error=error, round=2)
    page = admin.get(f"{REQUESTS}/{key}").text
    assert all(said in page for said in ("retries_exhausted", "deadline_exceeded", "redriven 2 times", "in Flower")[:3])
    assert "in Flower" not in page
    assert re.search(r"<dt>attempts</dt><dd>8</dd>", page)


# --- when something is away -------------------------------------------------------------------------------


def test_overview_is_there_while_redis_is_away_and_links_to_flower(
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
        link = f"https://flower.example/f/tasks?name=snapshots.create%20args%3A{key}"
        assert f'href="{link}"' in client.get(f"{REQUESTS}/{key}").text
