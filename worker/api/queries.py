"""The query parameters of list and export, and the MongoDB conditions that they stand for."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

from bson import DatetimeMS, ObjectId
from fastapi import Request
from pydantic import AfterValidator, BeforeValidator, Field

from worker.clock import milliseconds
from worker.domain.requests import CamelModel, Id, Label, Tag
from worker.domain.validation import MAX_FAULTS, check_text
from worker.errors import InvalidRequest
from worker.settings import Settings
from worker.stores.connections import Document

NEWEST_FIRST = (("createdAt", -1), ("_id", -1))

MAX_LIMIT, MAX_Q = 100, 200
MAX_PAGE = 1000
"""MongoDB reads and skips the index keys of all pages before: `after` is for those that are further behind."""
CURSOR_PATTERN = "^[0-9a-f]{36}$"
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt](\d\d:\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d))?", re.ASCII)
Query = TypeVar("Query", bound=CamelModel)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _read_integer(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value, re.ASCII):
        return int(value)
    raise ValueError("should be a whole number")


def _read_time(value: Any) -> DatetimeMS:
    """Read an RFC 3339 time with its offset, or a day, which means its start in UTC."""
    if isinstance(value, str) and (match := _TIME.fullmatch(value)):
        day, minute, second, fraction, offset = match.groups()
        try:
            moment = datetime.fromisoformat(f"{day}T{minute or '00:00'}+00:00")
            # With an offset, a time in year 1 or 9999 may exceed datetime. A leap second counts as the next second.
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
        raise ValueError("should be the `next` of the previous page")
    return DatetimeMS(int(value[:12], 16)), ObjectId(value[12:])


def cursor_of(document: Mapping[str, Any]) -> str | None:
    """The cursor of the page after this snapshot; None if its date is not an ordinary one."""
    created = document.get("createdAt")
    since = -1
    if isinstance(created, datetime | DatetimeMS):
        since = milliseconds(created) if isinstance(created, datetime) else int(created)
    return f"{since:012x}{document['_id']}" if 0 <= since < 16**12 else None


def _check_page(value: int) -> int:
    if not 1 <= value <= MAX_PAGE:
        raise ValueError(f"should be from 1 to {MAX_PAGE}; read on with `after`, the `next` of the previous page")
    return value


def _check_q(value: str) -> str:
    if not 1 <= len(value) <= MAX_Q:
        raise ValueError(f"should have 1 to {MAX_Q} characters, it has {len(value)}")
    return check_text(value)


# Snapshots of the platform may lack the field; its model then takes them as not archived.
_ARCHIVED: dict[str, Any] = {"true": True, "false": {"$in": [False, None]}, "all": {"$in": [False, True, None]}}

Integer = Annotated[int, BeforeValidator(_read_integer)]
Time = Annotated[DatetimeMS, BeforeValidator(_read_time)]
Cursor = Annotated[tuple[DatetimeMS, ObjectId], BeforeValidator(_read_cursor)]


class ExportQuery(CamelModel):
    """The parameters of the export."""

    quality: Label | None = None
    category: Label | None = None

    def condition(self, organization: ObjectId) -> Document:
        """The condition on the snapshot collection, without archived snapshots."""
        condition: Document = {"organizationId": organization, "isArchived": _ARCHIVED["false"]}
        condition |= {name: value for name, value in self if value is not None}
        return condition


class ListQuery(CamelModel):
    """The parameters of the list. `after` takes precedence over `page`."""

    page: Annotated[Integer, AfterValidator(_check_page)] = 1
    limit: Annotated[Integer, Field(ge=1, le=MAX_LIMIT)] = 20
    after: Cursor | None = None
    quality: Label | None = None
    category: Label | None = None
    tag: Tag | None = None
    contact_id: Id | None = None
    conversation_id: Id | None = None
    from_: Annotated[Time | None, Field(alias="from")] = None
    to: Time | None = None
    is_archived: Literal["true", "false", "all"] = "false"
    q: Annotated[str, AfterValidator(_check_q)] | None = None

    def condition(self, organization: ObjectId) -> Document:
        """The condition on the snapshot collection, without `after`. Every value is a plain one, never an operator."""
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
        if bounds := {operator: value for operator, value in between.items() if value is not None}:
            condition["createdAt"] = bounds
        if self.q is not None:
            condition["notes"] = {"$regex": re.escape(self.q), "$options": "i"}
        return condition

    def after_condition(self) -> Document:
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
    """Check that an operation without parameters gets none. Raises InvalidRequest, which names them."""
    if request.scope["query_string"]:
        names = sorted({_displayed(name) for name, _ in request.query_params.multi_items()})[:MAX_FAULTS]
        raise InvalidRequest(
            [{"field": name, "message": "is not allowed; this operation has no parameters"} for name in names]
        )


def _displayed(name: str) -> str:
    """A parameter's name, which is the caller's text, safe for an answer."""
    return name.encode("unicode_escape").decode()[:100] or "query"


def read_query(request: Request, model: type[Query], limits: Settings) -> Query:
    """Read the query parameters. An empty one counts as omitted. Raises InvalidRequest."""
    names = {field.alias for field in model.model_fields.values()}
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in values:
            raise InvalidRequest([{"field": _displayed(name), "message": "should be given once"}])
        values[name] = value
    return model.read({name: value for name, value in values.items() if value or name not in names}, limits)
