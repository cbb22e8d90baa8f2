"""The filter of the requests page, which is read from its form or from the query of its address."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from bson import ObjectId

from worker.domain.ledger_entry import ACCEPTED, COMPLETED, FAILED
from worker.operations.web.forms import Form, check, local_time, object_id
from worker.operations.web.session import Viewer
from worker.stores.queries import RequestFilter

STATES = {FAILED: "Failed", ACCEPTED: "In flight", COMPLETED: "Completed"}
AGES = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class FilterForm:
    """The fields of the form. `age` is relative to now; `begin` and `end` are times in UTC."""

    organization: ObjectId | None
    status: str
    code: str = ""
    age: str = ""
    begin: datetime | None = None
    end: datetime | None = None

    def requests(self, now: datetime, until: datetime | None = None) -> RequestFilter:
        """Return the filter at the time `now`. `until` limits it further, even if a later end was chosen."""
        since = self.begin or (now - AGES[self.age] if self.age else None)
        ends = [end for end in (self.end, until) if end]
        return RequestFilter(self.organization, self.status, self.code or None, since, min(ends) if ends else None)

    def fields(self, **changes: str) -> dict[str, str]:
        """Return the form's fields that are not empty."""
        fields = {
            "organization": str(self.organization or ""),
            "status": self.status,
            "code": self.code,
            "age": self.age,
            "from": _local_time(self.begin),
            "to": _local_time(self.end),
            **changes,
        }
        return {name: value for name, value in fields.items() if value}

    def address(self, path: str, **changes: str) -> str:
        return f"{path}?{urlencode(self.fields(**changes))}"


def read_filter(form: Form, viewer: Viewer) -> FilterForm:
    """Read the filter. Raises InvalidRequest, which names the field, and Forbidden for another organization."""
    status, code, age = form["status"] or FAILED, form["code"], form["age"]
    check("status", status in STATES, f"should be one of {', '.join(STATES)}")
    check("code", not code or _CODE.fullmatch(code) is not None, "should be an error code such as contact_not_found")
    check("code", not code or status == FAILED, "should be empty: only failed requests have an error code")
    check("age", not age or age in AGES, f"should be one of {', '.join(AGES)}")
    organization = object_id("organization", form["organization"]) if form["organization"] else None
    begin, end = local_time("from", form["from"]), local_time("to", form["to"])
    return FilterForm(viewer.restrict(organization), status, code, age, begin, end)


def _local_time(moment: datetime | None) -> str:
    """Return the value of an input of the type `datetime-local`."""
    return f"{moment:%Y-%m-%dT%H:%M}" if moment else ""
