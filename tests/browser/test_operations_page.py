"""An operator at work in a browser: sees in Flower why a task is retried, filters failures, redrives, and watches.

SCREENSHOTS=1 (`make screenshots`) takes the pictures of docs/screenshots.
"""

import html
import json
import os
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Error, Page, Route, expect

from support.site import LATE, Site
from worker.errors import RequestFailed

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
VIEWS: dict[str, dict[str, Any]] = {
    "desktop-light": DESKTOP,
    "desktop-dark": {**DESKTOP, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 375, "height": 812}, "device_scale_factor": 2, "is_mobile": True},
}
ROOT = "/operations"


@contextmanager
def opened(browser: Browser, **options: Any) -> Iterator[Page]:
    """Open a page in its own context, and check that no script fails and no content security policy is violated."""
    context = browser.new_context(**options)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    try:
        yield page
        assert faults == []
    finally:
        context.close()


def log_in(page: Page, site: Site) -> None:
    page.goto(f"{site.api}{ROOT}")
    expect(page).to_have_url(re.compile(r"/operations/login"))
    page.get_by_label("ADMIN token").fill(site.token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


@pytest.mark.timeout(300)  # 30 s on a quiet machine, more than 120 s at a load of 12 on two cores
def test_operator_sees_what_failed_and_why_redrives_it_and_watches_it_complete(site: Site, browser: Browser) -> None:
    """This is one test, because each process of pytest-xdist would start its own system."""
    if taking_screenshots():
        _spread_over_an_hour(site)
    flower_shows_failed_tasks_after_a_login_and_retries_them(site, browser)
    for view in VIEWS:
        pages_fit_their_screen(site, browser, view)
    failures_are_filtered_by_code_redriven_and_seen_to_complete(site, browser)
    rejected_entry_is_corrected_and_resubmitted(site, browser)
    nothing_personal_is_shown_or_logged_anywhere(site)


def flower_shows_failed_tasks_after_a_login_and_retries_them(site: Site, browser: Browser) -> None:
    assert httpx.get(f"{site.flower}/tasks").status_code == 401
    with opened(browser) as stranger, pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):
        stranger.goto(f"{site.flower}/tasks")
    first, *others = map(str, site.unsent)
    options: dict[str, Any] = {"viewport": {"width": 1560, "height": 560}}
    with opened(browser, http_credentials={"username": site.login[0], "password": site.login[1]}, **options) as page:
        log_in(page, site)
        page.goto(f"{site.api}{ROOT}/requests/{first}")
        page.get_by_role("link", name="Show attempts in Flower").click()
        row = page.locator("#tasks-table tbody tr", has_text=first).first
        expect(row).to_contain_text(
            "messages_not_found: Some of the messages do not exist or do not belong to this contact.", timeout=10_000
        )
        expect(row).to_contain_text(str(site.organization))
        row.get_by_role("link", name="FAILURE").click()
        expect(page.get_by_text("Failed requests")).to_be_visible()
        page.locator("dd").get_by_role("link", name=first).first.click()
        expect(page).to_have_url(f"{site.api}{ROOT}/requests/{first}")
        page.go_back()
        page.get_by_role("button", name="Retry").click()
        expect(page.locator("#retry-answers")).to_contain_text("Retried 1 task: 1 FAILURE.", timeout=30_000)
        site.send()
        page.get_by_role("button", name="Retry").click()
        expect(page.locator(".badge", has_text="SUCCESS")).to_be_visible(timeout=30_000)
        expect(page.get_by_role("button", name="Retry")).to_have_count(0)
        _reason_is_shown_without_the_name_of_the_exception(page, site)
        _select_and_retry(page, site, others)
        for path, text in (("/workers", "worker1@"), ("/broker", "snapshots.bulk")):
            page.goto(site.flower + path)
            expect(page.locator("tbody").first).to_contain_text(text)


def _reason_is_shown_without_the_name_of_the_exception(page: Page, site: Site) -> None:
    """Python quotes a text that has an apostrophe in another way."""
    reason = "snapshot_too_large: The snapshot would exceed MongoDB's limit."

    def with_reason(route: Route) -> None:
        answer = route.fetch()
        rows = [{**each, "exception": repr(RequestFailed(reason))} for each in answer.json()["data"]]
        route.fulfill(response=answer, json={**answer.json(), "data": rows})

    page.route("**/tasks/datatable*", with_reason)
    page.goto(f"{site.flower}/tasks")
    expect(page.get_by_role("cell", name=reason, exact=True).first).to_be_visible(timeout=10_000)
    page.unroute("**/tasks/datatable*")


def _select_and_retry(page: Page, site: Site, keys: list[str]) -> None:
    """Filter Flower's list of failed tasks by their code, select rows, press Retry, and watch them succeed."""
    rows = page.locator("#tasks-table tbody tr")
    page.goto(f"{site.flower}/tasks")
    page.get_by_role("button", name="Failed", exact=True).click()
    page.get_by_role("searchbox").fill("state:FAILURE outcome:messages_not_found")
    expect(rows).to_have_count(len(keys), timeout=10_000)
    for key in keys:
        rows.filter(has_text=key).get_by_role("checkbox").check()
    wide = page.viewport_size
    assert wide is not None
    page.set_viewport_size({"width": 390, "height": 844})
    expect(page.get_by_role("button", name=f"Retry {len(keys)}")).to_be_in_viewport(ratio=1)
    page.set_viewport_size(wide)
    if taking_screenshots():
        page.screenshot(path=pictures() / "flower.png")
    page.get_by_role("button", name=f"Retry {len(keys)}").click()
    expect(page.locator("#retry-answers")).to_have_text(
        f"Retried {len(keys)} tasks: {len(keys)} SUCCESS.", timeout=30_000
    )
    expect(page.get_by_text("No tasks match your search.")).to_be_visible()
    if taking_screenshots():
        page.screenshot(path=pictures() / "flower-retried.png")
    assert site.states(site.unsent) == ["completed"] * LATE


def failures_are_filtered_by_code_redriven_and_seen_to_complete(site: Site, browser: Browser) -> None:
    with opened(browser, java_script_enabled=False, **DESKTOP) as page:
        log_in(page, site)
        page.get_by_role("navigation", name="Pages").get_by_role("link", name="Requests").click()
        page.get_by_label("Error code").fill("contact_not_found")
        page.get_by_role("button", name="Filter", exact=True).click()
        assert page.locator("tbody tr").count() == LATE
        expect(page.locator("tbody tr").first).to_contain_text("The organization has no such contact.")
        site.arrive()
        page.get_by_role("button", name=f"Redrive all {LATE} that match").click()
        expect(page.get_by_role("heading", name=f"Redrive {LATE} failed requests?")).to_be_visible()
        if taking_screenshots():
            page.screenshot(path=pictures() / "confirm.png")
        page.get_by_role("button", name=f"Redrive {LATE}", exact=True).click()
        expect(page.get_by_role("heading", name=f"{LATE} requests redriven")).to_be_visible()
        # The page refreshes without a script.
        expect(page.locator(".badge.completed")).to_have_count(LATE, timeout=20_000)
        expect(page.get_by_text("all have an outcome")).to_be_visible()
        if taking_screenshots():
            page.screenshot(path=pictures() / "redriven.png")
    assert site.states(site.late) == ["completed"] * LATE


def rejected_entry_is_corrected_and_resubmitted(site: Site, browser: Browser) -> None:
    with opened(browser, java_script_enabled=False, **DESKTOP) as page:
        log_in(page, site)
        page.get_by_role("navigation", name="Pages").get_by_role("link", name="Rejected").click()
        page.get_by_role("link", name="Correct").click()
        data = page.get_by_label("Data (a JSON object)")
        page.get_by_role("button", name="Resubmit").click()
        expect(page.get_by_role("alert")).to_contain_text("contactId")
        data.fill(data.input_value().replace("{", f'{{"contactId": "{site.contact}",', 1))
        page.get_by_role("button", name="Resubmit").click()
        expect(page.get_by_text("was accepted as this request")).to_be_visible()
    wanted = {"organizationId": site.organization, "requestId": {"$regex": "^stream:"}}
    assert site.database.snapshotrequests.count_documents(wanted) == 1


def pages_fit_their_screen(site: Site, browser: Browser, view: str) -> None:
    key = site.database.snapshotrequests.find_one({"organizationId": site.organization, "status": "failed"})
    assert key is not None
    paths = {"overview": "", "failures": "/requests", "request": f"/requests/{key['_id']}", "rejected": "/rejected"}
    paths |= {"exports": "/jobs", "export": f"/jobs/{site.export}", "backfills": "/jobs?kind=backfill"}
    with opened(browser, **VIEWS[view]) as page:
        log_in(page, site)
        for name, path in paths.items():
            page.goto(f"{site.api}{ROOT}{path}")
            too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert too_wide == 0, f"{name} is {too_wide} px too wide"
            for box in (each.bounding_box() for each in page.get_by_role("checkbox").all()):
                assert box is not None
                assert box["width"] >= 16
            if taking_screenshots() and name in {"overview", "failures", "rejected", "export"}:
                page.screenshot(path=pictures() / f"{name}-{view}.png")


def nothing_personal_is_shown_or_logged_anywhere(site: Site) -> None:
    assert len(site.personal) > 100
    shown = {"logs": site.logs(), **dict(_of_flower(site)), **dict(_of_the_api(site))}
    assert "empty_conversation" in shown["/operations/requests"]
    assert "RequestFailed" in shown["/api/tasks"]
    for where, text in shown.items():
        found = [each for each in site.personal if each in text]
        assert found == [], f"{len(found)} of {len(site.personal)} in {where}"


def _of_flower(site: Site) -> Iterator[tuple[str, str]]:
    with httpx.Client(base_url=site.flower, auth=site.login, timeout=30) as client:
        tasks = client.get("/api/tasks", params={"limit": 1000})
        yield "/api/tasks", _readable(tasks)
        paths = ["/workers", "/tasks", "/broker", "/api/workers", "/api/queues/length", "/metrics"]
        failing = [key for key, each in tasks.json().items() if each.get("exception")]
        paths += [
            f"/{kind}/{key}" for key in [*failing[:5], *list(tasks.json())[:5]] for kind in ("task", "api/task/info")
        ]
        for path in paths:
            answer = client.get(path)
            assert answer.status_code == 200, path
            yield path, _readable(answer)
        columns = {f"columns[{place}][data]": name for place, name in enumerate(("name", "uuid", "args", "exception"))}
        asked: dict[str, Any] = {
            "draw": 1,
            "start": 0,
            "length": 200,
            "order[0][column]": 0,
            "order[0][dir]": "asc",
            "search[value]": "",
        }
        answer = client.get("/tasks/datatable", params={**asked, **columns})
        assert answer.json()["recordsTotal"] > 0
        yield "/tasks/datatable", _readable(answer)


def _of_the_api(site: Site) -> Iterator[tuple[str, str]]:
    keys = [each["_id"] for each in site.database.snapshotrequests.find({}, {"_id": 1}).limit(20)]
    paths = ["", "/requests", "/requests?status=completed", "/requests?status=accepted", "/rejected"]
    paths += ["/jobs", "/jobs?kind=backfill", f"/jobs/{site.export}"]
    paths += [f"/requests/{key}" for key in [*keys, *site.late]]
    with httpx.Client(base_url=site.api, timeout=30) as client:
        yield "/metrics", client.get("/metrics").text
        client.headers["Authorization"] = f"Bearer {site.token}"
        for path in paths:
            answer = client.get(ROOT + path)
            assert answer.status_code == 200, path
            yield ROOT + path, _readable(answer)


def _readable(answer: httpx.Response) -> str:
    """Return the text as sent, and with the escapes of HTML or JSON resolved."""
    text = answer.text
    if answer.headers["content-type"].startswith("application/json"):
        return text + json.dumps(answer.json(), ensure_ascii=False)
    return text + html.unescape(text)


# --- screenshots ------------------------------------------------------------------------------------------


def taking_screenshots() -> bool:
    return os.environ.get("SCREENSHOTS", "") not in {"", "0"}


def pictures() -> Path:
    folder = Path(__file__).parents[2] / "docs" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _spread_over_an_hour(site: Site) -> None:
    """Spread the outcomes over an hour, with invented times: a picture of a single minute shows little."""
    dice = random.Random(7)
    requests = site.database.snapshotrequests
    done = {
        "organizationId": site.organization,
        "finishedAt": {"$exists": True},
        "_id": {"$nin": [*site.late, *site.unsent]},
    }
    for each in requests.find(done):
        end = each["finishedAt"] - timedelta(minutes=dice.triangular(0, 58, 20))
        moved = {"finishedAt": end, "acceptedAt": end - timedelta(seconds=dice.lognormvariate(-2.2, 0.6))}
        requests.update_one({"_id": each["_id"]}, {"$set": moved, "$unset": {"redrivenAt": ""}})
