"""Sessions of the operations pages: who may log in, until when, and which forms are accepted."""

import httpx
import pytest
from bson import ObjectId

from support import commands
from support.contacts import contact_with
from support.http import bearer, token
from support.operations import ROOT, browser, failed, form_of, ledger, send
from support.served import Served

LOGIN, REQUESTS, REJECTED = f"{ROOT}/login", f"{ROOT}/requests", f"{ROOT}/rejected"
PAGES = [ROOT, REQUESTS, f"{REQUESTS}/{ObjectId()}", f"{ROOT}/redriven", REJECTED, f"{REJECTED}/1-0", f"{ROOT}/no/such"]
POSTS = [f"{ROOT}/redrive", f"{ROOT}/redrive/confirmed", f"{REJECTED}/1-0", f"{ROOT}/logout"]


def test_without_a_token_every_page_leads_to_the_login(served: Served) -> None:
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
def test_only_an_admin_may_log_in(served: Served, role: str) -> None:
    value = token(served.organization, role, operator=True)
    for path in PAGES:
        answer = httpx.get(served.url + path, headers=bearer(value))
        assert answer.status_code == 403
    answer = httpx.post(served.url + LOGIN, data={"token": value})
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert value not in answer.text


def test_cookie_is_out_of_reach_of_scripts_and_other_sites_and_does_not_hold_the_token(served: Served) -> None:
    value = token(served.organization)
    plain = httpx.post(served.url + LOGIN, data={"token": f"Bearer {value}", "next": f"{REQUESTS}?code=x"})
    assert (plain.status_code, plain.headers["location"]) == (303, f"{REQUESTS}?code=x")
    cookie = plain.headers["set-cookie"].lower()
    assert all(said in cookie for said in ("httponly", "samesite=strict", "path=/operations"))
    assert "secure" not in cookie
    assert value[:20] not in plain.headers["set-cookie"]
    secure = httpx.post(served.url + LOGIN, data={"token": value}, headers={"X-Forwarded-Proto": "https"})
    assert "secure" in secure.headers["set-cookie"].lower()


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example", "/api", "/operations/../api", LOGIN, "x"])
def test_login_leads_only_to_an_operations_page(served: Served, wanted: str) -> None:
    answer = httpx.post(served.url + LOGIN, data={"token": token(served.organization), "next": wanted})
    location = answer.headers["location"]
    assert location == ROOT or (location.startswith(ROOT) and httpx.URL(served.url).join(location).host == "127.0.0.1")
    assert "login" not in location


def test_invalid_token_is_refused_and_an_unknown_session_leads_to_the_login(served: Served) -> None:
    for value in ("x", "", token(served.organization, exp=1), "a b", "ü" * 10):
        answer = httpx.post(served.url + LOGIN, data={"token": value})
        assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
    with httpx.Client(base_url=served.url, cookies={"snapshots_operations": "expired"}) as client:
        answer = client.get(REQUESTS)
        assert answer.headers["location"] == f"{LOGIN}?next=%2Foperations%2Frequests&ended=1"
        assert "max-age=0" in answer.headers["set-cookie"].lower()


def test_integration_key_opens_a_session(served: Served) -> None:
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


@pytest.mark.parametrize("kind", ["token", "key"])
def test_logging_out_ends_the_session_in_every_api_process(served: Served, second: str, kind: str) -> None:
    value = token(ObjectId())
    if kind == "key":
        order = ("keys", "create", "--organization", ObjectId(), "--user", ObjectId(), "--role", "ADMIN", "--json")
        value = commands.run(commands.environment(served.settings), *order).json["key"]
    with browser(served.url, value) as client:
        stolen = dict(client.cookies)
        with (
            httpx.Client(base_url=second, cookies=stolen, timeout=30) as elsewhere,
            httpx.Client(base_url=served.url, cookies=stolen, timeout=30) as here,
        ):
            assert elsewhere.get(ROOT).status_code == here.get(ROOT).status_code == 200
            assert send(client, form_of(client.get(ROOT), f"{ROOT}/logout")).url.path == LOGIN
            for thief in (elsewhere, here):
                answer = thief.get(ROOT)
                assert (answer.status_code, answer.headers["location"]) == (303, f"{LOGIN}?ended=1")
                thief.cookies = stolen  # the answer has deleted it
                assert thief.post(f"{ROOT}/redrive", data={"all": "1"}).status_code == 401
    with browser(served.url, value) as again:  # the token itself is still valid
        assert again.get(ROOT).status_code == 200


def test_session_ends_after_its_lifetime_and_the_database_alone_does_not_reveal_the_token(served: Served) -> None:
    organization = ObjectId()
    value = token(organization)
    before = {each["_id"] for each in served.database.snapshotstate.find({"expiresAt": {"$exists": True}})}
    with browser(served.url, value) as client:
        stored = {"expiresAt": {"$exists": True}, "_id": {"$nin": list(before)}}
        (session,) = served.database.snapshotstate.find(stored)
        assert value not in repr(session)
        assert client.cookies["snapshots_operations"].strip('"') not in repr(session)
        served.database.snapshotstate.update_one(stored, {"$set": {"expiresAt": served.running.bench.ago(seconds=1)}})
        assert client.get(ROOT).status_code == 303
    options = served.database.snapshotstate.index_information()["snapshots_expiresAt"]
    assert options["expireAfterSeconds"] == 0


# --- forged requests --------------------------------------------------------------------------------------


def test_forged_form_changes_nothing(served: Served, own: ObjectId, admin: httpx.Client) -> None:
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


def test_token_in_a_header_needs_no_csrf_token(served: Served, own: ObjectId) -> None:
    key = failed(served.database, own, contact_with(served.database, 1, organization=own).id)
    with httpx.Client(base_url=served.url, headers=bearer(token(own))) as client:
        confirm = client.post(f"{ROOT}/redrive", data={"id": str(key)})
        assert send(client, form_of(confirm, f"{ROOT}/redrive/confirmed")).status_code == 200
    assert ledger(served, key)["round"] == 1


def test_login_of_a_proxy_in_front_does_not_hide_the_session(
    served: Served, own: ObjectId, admin: httpx.Client
) -> None:
    """The browser then sends it with each request, and the proxy passes it on."""
    proxys = {"Authorization": "Basic b3BlcmF0b3I6c2VjcmV0"}
    assert admin.get(ROOT, headers=proxys).status_code == 200
    assert httpx.get(served.url + ROOT, headers=proxys).status_code == 303
    key = failed(served.database, served.organization, own)
    forged = admin.post(f"{ROOT}/redrive", data={"id": str(key)}, headers=proxys)
    assert forged.status_code == 403
    assert ledger(served, key)["status"] == "failed"
