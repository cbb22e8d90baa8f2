"""What an operator does in a browser: sees in Flower why a task is retried, filters failures, redrives, watches.

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
from playwright.sync_api import Browser, Error, Page, expect

from support.site import LATE, LOGIN, Site

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
VIEWS: dict[str, dict[str, Any]] = {
    "desktop-light": DESKTOP,
    "desktop-dark": {**DESKTOP, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True},
}
ROOT = "/operations"


@contextmanager
def opened(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page in a context of its own, in which nothing may break a script or the policy."""
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
    page.get_by_label("Token of an ADMIN").fill(site.token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_operator_sees_what_failed_and_why_redrives_it_and_watches_it_complete(site: Site, browser: Browser) -> None:
    """One test, for each process of pytest-xdist would start a system of its own."""
    if taking_screenshots():
        _spread_over_an_hour(site)
    flower_shows_a_retried_task_with_its_reason_to_who_has_logged_in(site, browser)
    for view in VIEWS:
        pages_fit_their_screen(site, browser, view)
    failures_are_filtered_by_code_redriven_and_seen_to_complete(site, browser)
    rejected_entry_is_corrected_and_taken_in(site, browser)
    nothing_personal_is_shown_or_logged_anywhere(site)


def flower_shows_a_retried_task_with_its_reason_to_who_has_logged_in(site: Site, browser: Browser) -> None:
    assert httpx.get(f"{site.flower}/tasks").status_code == 401
    with opened(browser) as stranger, pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):
        stranger.goto(f"{site.flower}/tasks")
    key = site.late[0]
    options: dict[str, Any] = {"viewport": {"width": 1560, "height": 560}}
    with opened(browser, http_credentials={"username": LOGIN[0], "password": LOGIN[1]}, **options) as page:
        log_in(page, site)
        page.goto(f"{site.api}{ROOT}/requests/{key}")
        page.get_by_role("link", name="Its attempts in Flower").click()
        row = page.locator("#tasks-table tbody tr", has_text=str(key)).first
        expect(row).to_contain_text("ParentNotYetThere", timeout=10_000)
        expect(row).to_contain_text(str(site.organization))
        if taking_screenshots():
            page.screenshot(path=pictures() / "flower.png")
        row.get_by_role("link").first.click()
        expect(page.locator("body")).to_contain_text("ParentNotYetThere")


def failures_are_filtered_by_code_redriven_and_seen_to_complete(site: Site, browser: Browser) -> None:
    with opened(browser, java_script_enabled=False, **DESKTOP) as page:
        log_in(page, site)
        page.get_by_role("navigation", name="Pages").get_by_role("link", name="Requests").click()
        page.get_by_label("Code").fill("contact_not_found")
        page.get_by_role("button", name="Filter", exact=True).click()
        assert page.locator("tbody tr").count() == LATE
        expect(page.locator("tbody tr").first).to_contain_text("The organization has no such contact.")
        site.arrive()
        page.get_by_role("button", name=f"Redrive all {LATE} of this filter").click()
        expect(page.get_by_role("heading", name=f"Redrive {LATE} failed requests?")).to_be_visible()
        if taking_screenshots():
            page.screenshot(path=pictures() / "confirm.png")
        page.get_by_role("button", name=f"Redrive {LATE}", exact=True).click()
        expect(page.get_by_role("heading", name=f"{LATE} requests redriven")).to_be_visible()
        # The page looks again by itself.
        expect(page.locator(".badge.completed")).to_have_count(LATE, timeout=20_000)
        expect(page.get_by_text("all have an outcome")).to_be_visible()
        if taking_screenshots():
            page.screenshot(path=pictures() / "redriven.png")
    assert site.states() == ["completed"] * LATE


def rejected_entry_is_corrected_and_taken_in(site: Site, browser: Browser) -> None:
    with opened(browser, java_script_enabled=False, **DESKTOP) as page:
        log_in(page, site)
        page.get_by_role("navigation", name="Pages").get_by_role("link", name="Rejected").click()
        page.get_by_role("link", name="Correct").click()
        data = page.get_by_label("Data, a JSON object")
        page.get_by_role("button", name="Take it in").click()
        expect(page.get_by_role("alert")).to_contain_text("contactId")
        data.fill(data.input_value().replace("{", f'{{"contactId": "{site.contact}",', 1))
        page.get_by_role("button", name="Take it in").click()
        expect(page.get_by_text("was taken in as this request")).to_be_visible()
    wanted = {"organizationId": site.organization, "requestId": {"$regex": "^stream:"}}
    assert site.database.snapshotrequests.count_documents(wanted) == 1


def pages_fit_their_screen(site: Site, browser: Browser, view: str) -> None:
    key = site.database.snapshotrequests.find_one({"organizationId": site.organization, "status": "failed"})
    assert key is not None
    paths = {"overview": "", "failures": "/requests", "request": f"/requests/{key['_id']}", "rejected": "/rejected"}
    with opened(browser, **VIEWS[view]) as page:
        log_in(page, site)
        for name, path in paths.items():
            page.goto(f"{site.api}{ROOT}{path}")
            too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert too_wide == 0, f"{name} is {too_wide} px too wide"
            for box in (each.bounding_box() for each in page.get_by_role("checkbox").all()):
                assert box is not None
                assert box["width"] >= 16
            if taking_screenshots() and name != "request":
                page.screenshot(path=pictures() / f"{name}-{view}.png")


def nothing_personal_is_shown_or_logged_anywhere(site: Site) -> None:
    assert len(site.personal) > 100
    shown = {"logs": site.logs(), **dict(_of_flower(site)), **dict(_of_the_api(site))}
    assert "empty_conversation" in shown["/operations/requests"]
    assert "ParentNotYetThere" in shown["/api/tasks"]
    for where, text in shown.items():
        found = [each for each in site.personal if each in text]
        assert found == [], f"{len(found)} of {len(site.personal)} in {where}"


def _of_flower(site: Site) -> Iterator[tuple[str, str]]:
    with httpx.Client(base_url=site.flower, auth=LOGIN, timeout=30) as client:
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
    paths += [f"/requests/{key}" for key in [*keys, *site.late]]
    with httpx.Client(base_url=site.api, timeout=30) as client:
        yield "/metrics", client.get("/metrics").text
        client.headers["Authorization"] = f"Bearer {site.token}"
        for path in paths:
            answer = client.get(ROOT + path)
            assert answer.status_code == 200, path
            yield ROOT + path, _readable(answer)


def _readable(answer: httpx.Response) -> str:
    """As sent, and as a reader of HTML or JSON has it."""
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
    """The run's outcomes, as if they had come over an hour: a picture of one minute shows little. Times are made up."""
    dice = random.Random(7)
    requests = site.database.snapshotrequests
    done = {"organizationId": site.organization, "finishedAt": {"$exists": True}, "_id": {"$nin": site.late}}
    for each in requests.find(done):
        end = each["finishedAt"] - timedelta(minutes=dice.triangular(0, 58, 20))
        moved = {"finishedAt": end, "acceptedAt": end - timedelta(seconds=dice.lognormvariate(-2.2, 0.6))}
        requests.update_one({"_id": each["_id"]}, {"$set": moved, "$unset": {"redrivenAt": ""}})
