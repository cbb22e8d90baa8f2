"""The documentation of the HTTP API in a browser: log in, press "Try it out", and see the answer."""

import os
from pathlib import Path

from bson import ObjectId
from playwright.sync_api import Browser, Page, expect

from support.http import api, token
from worker.settings import Settings

SLOW = 30_000  # ms
PICTURES = Path(__file__).parents[2] / "docs" / "screenshots"


def test_operation_can_be_tried_out_with_a_token_and_without_the_network(
    settings: Settings, browser: Browser, tmp_path: Path
) -> None:
    organization = ObjectId()
    with api(settings, tmp_path) as (url, _), browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        asked: list[str] = []
        faults: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.goto(f"{url}/docs")
        expect(page.get_by_role("heading", name="Training snapshots")).to_be_visible(timeout=SLOW)
        _authorize(page, token(organization))
        operation = page.locator("#operations-snapshots-listSnapshots")
        operation.get_by_role("button").first.click()
        operation.get_by_role("button", name="Try it out").click()
        operation.get_by_role("button", name="Execute").click()
        expect(operation.locator(".live-responses-table tbody .response-col_status")).to_contain_text(
            "200", timeout=SLOW
        )
        expect(operation.locator(".live-responses-table")).to_contain_text('"pagination"')
        if os.environ.get("SCREENSHOTS"):
            operation.locator(".btn-group").evaluate("group => group.scrollIntoView()")
            page.screenshot(path=PICTURES / "docs-try-it-out.png")
        assert faults == []
        assert {each.split("/docs")[0].split("?")[0] for each in asked if not each.startswith("data:")} <= {
            url,
            f"{url}/openapi.json",
            f"{url}/api/training/snapshots",
        }


def _authorize(page: Page, value: str) -> None:
    page.get_by_role("button", name="Authorize").first.click()
    page.get_by_role("textbox").last.fill(value)
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Apply credentials").click()
    page.locator(".auth-btn-wrapper").get_by_role("button", name="Close").click()
