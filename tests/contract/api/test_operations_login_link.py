"""Links of `snapshots login`: they log a browser in once, and say why if they do not."""

import httpx
from bson import ObjectId

from support import commands
from support.operations import ROOT, form_of, send
from support.served import Served
from worker.operations.web.session import LOGIN

PAGE = f"{LOGIN}/once"


def link(served: Served, *arguments: object, url: str | None = None) -> str:
    env = commands.environment(served.settings)
    ended = commands.run(env, "login", "--url", url or served.url, *arguments, "--json")
    assert ended.code == 0, ended.stderr
    return str(ended.json["link"])


def logins(served: Served) -> dict[str, float]:
    """The counter of logins by link, by outcome."""
    lines = httpx.get(f"{served.url}/metrics").text.splitlines()
    counted = [line.split() for line in lines if line.startswith('snapshots_operations_logins_total{by="link"')]
    return {outcome: float(value) for key, value in counted for outcome in ("opened", "refused") if outcome in key}


def test_link_logs_one_browser_in_once_however_often_it_is_opened(served: Served) -> None:
    address = link(served)
    before = logins(served)
    with httpx.Client(timeout=30) as preview, httpx.Client(timeout=30) as first, httpx.Client(timeout=30) as second:
        assert [preview.get(address).status_code, preview.head(address).status_code] == [200, 200]
        forms = [form_of(each.get(address), PAGE) for each in (first, second)]
        for each in (first, second):
            each.base_url = httpx.URL(served.url)
        page = send(first, forms[0])
        assert (page.status_code, page.url.path, "all organizations" in page.text) == (200, ROOT, True)
        cookie = first.cookies.jar
        assert [(each.path, each.has_nonstandard_attr("HttpOnly")) for each in cookie] == [(ROOT, True)]
        for refused in (send(second, forms[1]), second.get(address)):
            assert refused.status_code == 410
            assert "was already used, at" in refused.text
            assert "snapshots login" in refused.text
        assert second.get(ROOT).status_code == 303
        assert send(first, form_of(first.get(ROOT), f"{ROOT}/logout")).url.path == LOGIN
        assert first.get(ROOT).status_code == 303
    counts = {name: value - before.get(name, 0) for name, value in logins(served).items()}
    assert counts == {"opened": 1, "refused": 1}
    log = served.process.output()
    assert '"operations_login"' in log
    assert '"operations_login_link_refused"' in log
    assert address.rpartition("=")[2] not in log + repr(list(served.database.snapshotstate.find()))


def test_link_of_an_organization_shows_only_that_one(served: Served) -> None:
    address = link(served, "--organization", served.organization)
    with httpx.Client(base_url=served.url, timeout=30) as browser:
        opened = browser.get(address)
        assert str(served.organization) in opened.text
        assert "all organizations" not in send(browser, form_of(opened, PAGE)).text
        assert browser.get(f"{ROOT}/requests?organization={ObjectId()}").status_code == 403


def test_expired_unknown_and_malformed_links_say_so(served: Served) -> None:
    address = link(served)
    past = served.running.bench.ago(seconds=1)
    served.database.snapshotstate.update_many({"validUntil": {"$exists": True}}, {"$set": {"validUntil": past}})
    cases = [(address, "expired at"), (f"{address[:-1]}~", "unknown"), (f"{served.url}{PAGE}", "unknown")]
    for each, fault in [*cases, (f"{served.url}{PAGE}?code={'x' * 43}", "unknown")]:
        opened = httpx.get(each)
        used = httpx.post(f"{served.url}{PAGE}", data={"code": each.partition("code=")[2]})
        for answer in (opened, used):
            assert (answer.status_code, "set-cookie" in answer.headers) == (410, False)
            assert fault in answer.text


def test_another_site_cannot_use_a_link(served: Served) -> None:
    address = link(served)
    form = form_of(httpx.get(address), PAGE)
    for said in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        assert httpx.post(f"{served.url}{PAGE}", data=dict(form.fields), headers=said).status_code == 403
    assert httpx.post(f"{served.url}{PAGE}", data=dict(form.fields)).status_code == 303


def test_link_is_valid_in_every_api_process(served: Served, second: str) -> None:
    with httpx.Client(base_url=second, timeout=30) as browser:
        form = form_of(browser.get(link(served, url=second)), PAGE)
        assert send(browser, form).url.path == ROOT
        elsewhere = httpx.Client(base_url=served.url, cookies=dict(browser.cookies), timeout=30)
        with elsewhere:
            assert elsewhere.get(ROOT).status_code == 200


def test_address_of_the_link_has_to_be_known(served: Served) -> None:
    env = commands.environment(served.settings)
    wrong = commands.run(env, "login", "--url", "snapshots.example.com")
    unknown = commands.run(env | {"SNAPSHOTS_API_PORT": "0"}, "login")
    assert [wrong.code, unknown.code] == [2, 2]
    assert "should begin with http" in wrong.stderr
    assert "give --url" in unknown.stderr
    ended = commands.run(env | {"SNAPSHOTS_API_HOST": "0.0.0.0", "SNAPSHOTS_API_PORT": "8123"}, "login")
    assert ended.stdout.startswith(f"http://127.0.0.1:8123{PAGE}?code=")
    assert "works once, until" in ended.stderr
