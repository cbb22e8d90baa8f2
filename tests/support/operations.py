"""Uses the operations pages as a browser without JavaScript does: cookies, links, forms."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import httpx
from bson import ObjectId
from pymongo.database import Database

from support.served import Served

ROOT = "/operations"


@dataclass
class PageForm:
    """A form of a page: its address, and the fields that it sends unchanged."""

    action: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    boxes: list[str] = field(default_factory=list)
    """The values of its checkboxes, none of which is checked."""


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[PageForm] = []
        self._open = False
        self._area: str | None = None
        self._select: str | None = None

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(PageForm(given["action"]))
            self._open = True
        if not self._open:
            return
        form = self.forms[-1]
        if tag == "input" and given.get("type") == "checkbox":
            form.boxes.append(given["value"])
        elif tag == "input" and "name" in given:
            form.fields.append((given["name"], given.get("value", "")))
        elif tag == "textarea":
            self._area = given["name"]
            form.fields.append((given["name"], ""))
        elif tag == "select":
            self._select = given["name"]
        elif tag == "option" and self._select and "selected" in given:
            form.fields.append((self._select, given["value"]))

    def handle_data(self, data: str) -> None:
        if self._area is not None:
            name, text = self.forms[-1].fields.pop()
            # A line break right after the tag is not part of the content (HTML standard, 13.1.2.5).
            self.forms[-1].fields.append((name, text + (data if text else data.removeprefix("\n"))))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = False
        elif tag == "textarea":
            self._area = None
        elif tag == "select":
            self._select = None


def form_of(answer: httpx.Response, action: str) -> PageForm:
    """Return the form of a page by its address."""
    parser = _Forms()
    parser.feed(answer.text)
    return next(form for form in parser.forms if form.action == action)


def send(client: httpx.Client, form: PageForm, **more: str | Sequence[str]) -> httpx.Response:
    """Send the form with these fields changed or added, and follow redirects."""
    fields: dict[str, Any] = {}
    for name, value in form.fields:
        fields.setdefault(name, []).append(value)
    return client.post(form.action, data={**fields, **more}, follow_redirects=True)


def browser(url: str, value: str) -> httpx.Client:
    """Return a client that has logged in with this token."""
    answer = httpx.post(f"{url}{ROOT}/login", data={"token": value}, timeout=30)
    assert answer.status_code == 303, answer.text
    return httpx.Client(base_url=url, cookies=answer.cookies, timeout=30)


def failed(database: Database[dict[str, Any]], organization: ObjectId, contact: ObjectId, **fields: Any) -> ObjectId:
    """Add a failed request to the ledger. Redriven, it completes if the contact has messages."""
    key = ObjectId()
    now = database.client.admin.command("hello")["localTime"]
    entry: Mapping[str, Any] = {
        "_id": key,
        "organizationId": organization,
        "requestId": f"order-{key}",
        "bodyHash": "0" * 64,
        "contactId": contact,
        "tags": [],
        "trigger": "client",
        "status": "failed",
        "round": 0,
        "queue": "snapshots",
        "acceptedAt": now - timedelta(seconds=2),
        "enqueuedAt": now - timedelta(seconds=2),
        "finishedAt": now - timedelta(seconds=1),
        "error": {"code": "contact_not_found", "message": "The organization has no such contact.", "details": {}},
        **fields,
    }
    database.snapshotrequests.insert_one(dict(entry))
    return key


def listed(answer: httpx.Response) -> list[str]:
    """Return the ids of the requests that a page links to, in order."""
    return list(dict.fromkeys(re.findall(rf'href="{ROOT}/requests/([0-9a-f]{{24}})"', answer.text)))


def reject(served: Served, reason: dict[str, Any], fields: Any, origin: str) -> None:
    served.running.bench.service.events.reject(reason, fields, origin)


def newest(served: Served) -> str:
    """Return the id of the newest rejected entry."""
    entries: Any = served.running.redis.xrevrange("snapshots:rejected", count=1)
    return str(entries[0][0].decode())


def ledger(served: Served, key: ObjectId | str) -> dict[str, Any]:
    entry: dict[str, Any] | None = served.database.snapshotrequests.find_one({"_id": ObjectId(key)})
    assert entry is not None
    return entry
