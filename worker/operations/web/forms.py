"""What comes from a browser: forms, and the filter in an address."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlencode

from bson import ObjectId
from fastapi import Request

from worker.api.limits import read_body
from worker.api.responses import HttpError
from worker.clock import to_json
from worker.domain.requests import ACCEPTED, COMPLETED, FAILED, read_object_id
from worker.errors import InvalidRequest
from worker.operations.data.error_groups import Period
from worker.operations.web.session import Viewer

STATES = {FAILED: "Failed", ACCEPTED: "In flight", COMPLETED: "Completed"}
AGES = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
"""Before it there is no request, and no room for ages."""
_FIELDS = 1000
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)


class NotAForm(HttpError):
    """The body should be a form: application/x-www-form-urlencoded, in UTF-8."""

    code = "not_a_form"
    status = 415


class Form:
    """Fields of a form or an address; the last of a name counts, `all` gives each."""

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        """Stripped; empty where it is missing."""
        return self._fields.get(name, [""])[-1].strip()

    def all(self, name: str) -> Sequence[str]:
        return self._fields.get(name, [])


def query_of(request: Request) -> Form:
    return Form(_parse(request.url.query))


async def form_of(request: Request, most: int) -> Form:
    """Raises BodyTooLarge, NotAForm."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise NotAForm
    try:
        return Form(_parse((await read_body(request, most)).decode("ascii")))
    except ValueError:
        raise NotAForm from None


def _parse(encoded: str) -> dict[str, list[str]]:
    """Raises InvalidRequest where it is no UTF-8, or has very many fields."""
    try:
        return parse_qs(encoded, keep_blank_values=True, errors="strict", max_num_fields=_FIELDS)
    except ValueError:
        raise InvalidRequest([{"field": "form", "message": f"should be UTF-8 and up to {_FIELDS} fields"}]) from None


@dataclass(frozen=True, slots=True)
class Choice:
    """The filter as it was chosen, for forms and addresses; `which` is what it comes to."""

    organization: ObjectId | None
    status: str
    code: str
    age: str
    begin: datetime | None
    end: datetime | None

    def which(self, now: datetime, until: datetime | None = None) -> Period:
        """Requests as of `now`. `until`: only those up to then, whatever was chosen."""
        since = self.begin or (now - AGES[self.age] if self.age else None)
        ends = [each for each in (self.end, until) if each]
        return Period(self.organization, self.status, self.code or None, since, min(ends) if ends else None)

    def fields(self, **changed: str) -> dict[str, str]:
        """As fields of a form; empty ones are left out."""
        whole = {
            "organization": str(self.organization or ""),
            "status": self.status,
            "code": self.code,
            "age": self.age,
            "from": _shown(self.begin),
            "to": _shown(self.end),
            **changed,
        }
        return {name: value for name, value in whole.items() if value}

    def address(self, path: str, **changed: str) -> str:
        return f"{path}?{urlencode(self.fields(**changed))}"


def _shown(moment: datetime | None) -> str:
    """As a field of the type datetime-local has it."""
    return f"{moment:%Y-%m-%dT%H:%M}" if moment else ""


def choice_of(form: Form, viewer: Viewer) -> Choice:
    """Raises InvalidRequest that names the field, Forbidden for another's organization."""
    status, code, age = form["status"] or FAILED, form["code"], form["age"]
    _check("status", status in STATES, f"should be {', '.join(STATES)}")
    _check("code", not code or _CODE.fullmatch(code) is not None, "should be a code such as contact_not_found")
    _check("code", not code or status == FAILED, "only failed requests have one")
    _check("age", not age or age in AGES, f"should be {', '.join(AGES)}")
    asked = object_id("organization", form["organization"]) if form["organization"] else None
    return Choice(viewer.of(asked), status, code, age, _moment("from", form["from"]), _moment("to", form["to"]))


def object_id(field: str, given: str) -> ObjectId:
    """Raises InvalidRequest."""
    try:
        return read_object_id(given)
    except ValueError as error:
        raise InvalidRequest([{"field": field, "message": str(error)}]) from None


def object_ids(field: str, given: Sequence[str], most: int) -> list[ObjectId]:
    """Each once. Raises InvalidRequest."""
    _check(field, len(given) <= most, f"should be {most} at most")
    return list(dict.fromkeys(object_id(field, each) for each in given))


def _moment(field: str, given: str) -> datetime | None:
    if not given:
        return None
    try:
        return datetime.strptime(given[:16], "%Y-%m-%dT%H:%M").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidRequest([{"field": field, "message": "should be a time such as 2026-05-18T14:30"}]) from None


def exact_moment(field: str, given: str) -> datetime:
    """As `to_json` writes it. Raises InvalidRequest."""
    try:
        found = datetime.fromisoformat(given)
        if to_json(found) == given and found >= _FIRST:
            return found
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest([{"field": field, "message": "should be a time as the page has written it"}])


def _check(field: str, holds: bool, message: str) -> None:
    if not holds:
        raise InvalidRequest([{"field": field, "message": message}])
