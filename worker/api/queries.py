"""The list of an organization's snapshots: its query, as the caller writes it, and the condition that it means."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from bson import DatetimeMS, ObjectId
from fastapi import Request
from pydantic import AfterValidator, BeforeValidator, Field

from worker.clock import milliseconds
from worker.domain.requests import CamelModel, Id, Label, Tag
from worker.domain.validation import check_text
from worker.errors import InvalidRequest
from worker.stores.connections import Document

NEWEST_FIRST = (("createdAt", -1), ("_id", -1))

MAX_LIMIT, MAX_PAGE, MAX_Q = 100, 100_000, 200
CURSOR_PATTERN = "^[0-9a-f]{36}$"
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt](\d\d:\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d))?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _read_whole(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value, re.ASCII):
        return int(value)
    raise ValueError("should be a whole number")


def _read_moment(value: Any) -> DatetimeMS:
    """RFC 3339, with its offset, or a day (its first moment in UTC)."""
    if isinstance(value, str) and (found := _MOMENT.fullmatch(value)):
        day, minute, second, fraction, offset = found.groups()
        try:
            moment = datetime.fromisoformat(f"{day}T{minute or '00:00'}+00:00")
            # Years 1 and 9999 with an offset lie outside Python's; a leap second is the next one's first.
            later = timedelta(seconds=int(second or 0), milliseconds=int((fraction or "0").ljust(3, "0")[:3]))
            if int(second or 0) <= 60:
                since = moment - _EPOCH + later - _offset(offset or "Z")
                return DatetimeMS(since // timedelta(milliseconds=1))
        except ValueError:
            pass
    raise ValueError("should be a time such as 2026-05-18T14:30:00Z, or a day such as 2026-05-18")


def _offset(written: str) -> timedelta:
    if written in "Zz":
        return timedelta(0)
    hours, minutes = int(written[1:3]), int(written[4:6])
    if hours > 23 or minutes > 59:
        raise ValueError(written)
    return timedelta(hours=hours, minutes=minutes) * (-1 if written[0] == "-" else 1)


def _read_cursor(value: Any) -> tuple[DatetimeMS, ObjectId]:
    if not isinstance(value, str) or not re.fullmatch(CURSOR_PATTERN, value):
        raise ValueError("should be the `next` of a page of before")
    return DatetimeMS(int(value[:12], 16)), ObjectId(value[12:])


def cursor_of(document: Mapping[str, Any]) -> str | None:
    """Where the page behind this snapshot begins; None where it has no ordinary date."""
    created = document.get("createdAt")
    since = -1
    if isinstance(created, datetime | DatetimeMS):
        since = milliseconds(created) if isinstance(created, datetime) else int(created)
    return f"{since:012x}{document['_id']}" if 0 <= since < 16**12 else None


def _check_q(value: str) -> str:
    if not 1 <= len(value) <= MAX_Q:
        raise ValueError(f"should have 1 to {MAX_Q} characters, it has {len(value)}")
    return check_text(value)


# Of the platform's own there may be some without it, which its model takes for not archived.
_ARCHIVED: dict[str, Any] = {"true": True, "false": {"$in": [False, None]}, "all": {"$in": [False, True, None]}}

Whole = Annotated[int, BeforeValidator(_read_whole)]
Moment = Annotated[DatetimeMS, BeforeValidator(_read_moment)]
Cursor = Annotated[tuple[DatetimeMS, ObjectId], BeforeValidator(_read_cursor)]


class ExportQuery(CamelModel):
    """Which snapshots to export."""

    quality: Label | None = None
    category: Label | None = None

    def condition(self, organization: ObjectId) -> Document:
        """Of the collection of snapshots; the archived are left out."""
        condition: Document = {"organizationId": organization, "isArchived": _ARCHIVED["false"]}
        condition |= {name: value for name, value in self if value is not None}
        return condition


class ListQuery(CamelModel):
    """Which page, of which snapshots. `after` goes before `page`."""

    page: Annotated[Whole, Field(ge=1, le=MAX_PAGE)] = 1
    limit: Annotated[Whole, Field(ge=1, le=MAX_LIMIT)] = 20
    after: Cursor | None = None
    quality: Label | None = None
    category: Label | None = None
    tag: Tag | None = None
    contact_id: Id | None = None
    conversation_id: Id | None = None
    from_: Annotated[Moment | None, Field(alias="from")] = None
    to: Moment | None = None
    is_archived: Literal["true", "false", "all"] = "false"
    q: Annotated[str, AfterValidator(_check_q)] | None = None

    def condition(self, organization: ObjectId) -> Document:
        """Of the collection of snapshots, without `after`. Every value is a plain one, never an operator."""
        condition: Document = {"organizationId": organization, "isArchived": _ARCHIVED[self.is_archived]}
        equal = {
            "quality": self.quality,
            "category": self.category,
            "tags": self.tag,
            "contactId": self.contact_id,
            "conversationId": self.conversation_id,
        }
        condition |= {name: value for name, value in equal.items() if value is not None}
        between = {"$gte": self.from_, "$lte": self.to}
        if given := {operator: value for operator, value in between.items() if value is not None}:
            condition["createdAt"] = given
        if self.q is not None:
            condition["notes"] = {"$regex": re.escape(self.q), "$options": "i"}
        return condition

    def behind(self) -> Document:
        """What `after` adds to the condition."""
        if self.after is None:
            return {}
        created, key = self.after
        return {
            "$and": [
                {"createdAt": {"$lte": created}},
                {"$or": [{"createdAt": {"$lt": created}}, {"_id": {"$lt": key}}]},
            ]
        }


def refuse_query(request: Request) -> None:
    """Of an operation that takes no parameters. Raises InvalidRequest, which names them."""
    if request.scope["query_string"]:
        names = sorted({shown(name) for name, _ in request.query_params.multi_items()})
        raise InvalidRequest(
            [{"field": each, "message": "is not a parameter of this; it takes none"} for each in names]
        )


def shown(name: str) -> str:
    """A name of the caller's own, fit for an answer."""
    return name.encode("unicode_escape").decode()[:100] or "query"


def read_query(request: Request, model: type[CamelModel]) -> dict[str, str]:
    """The query's parameters; one of the model's that is empty is not given. Raises InvalidRequest for one repeated."""
    names = {field.alias for field in model.model_fields.values()}
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in found:
            raise InvalidRequest([{"field": shown(name), "message": "should be given once"}])
        found[name] = value
    return {name: value for name, value in found.items() if value or name not in names}
