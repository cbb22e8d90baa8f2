"""The query parameters of list and export, and the MongoDB filters that they stand for."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar

from bson import DatetimeMS, ObjectId
from fastapi import Request
from pydantic import AfterValidator, BeforeValidator, Field

from worker.clock import milliseconds
from worker.domain.requests import CamelModel, Label
from worker.domain.snapshot_filter import NOT_ARCHIVED, SnapshotFilter
from worker.domain.validation import MAX_FAULTS
from worker.errors import InvalidRequest
from worker.settings import Settings
from worker.stores.connections import Document

NEWEST_FIRST = (("createdAt", -1), ("_id", -1))

MAX_LIMIT = 100
MAX_PAGE = 1000
"""The highest page number that can be requested, because MongoDB reads and skips all pages before. Use `after` to read
further."""
CURSOR_PATTERN = "^[0-9a-f]{36}$"
_UNDATED = "f" * 12
"""Stands in a cursor for the time of a snapshot without `createdAt`. Such snapshots are the last ones in the list."""
Query = TypeVar("Query", bound=CamelModel)


def _read_integer(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value, re.ASCII):
        return int(value)
    raise ValueError("should be a whole number")


def _read_cursor(value: Any) -> tuple[DatetimeMS | None, ObjectId]:
    if not isinstance(value, str) or not re.fullmatch(CURSOR_PATTERN, value):
        raise ValueError("should be the `next` of the previous page")
    created = None if value.startswith(_UNDATED) else DatetimeMS(int(value[:12], 16))
    return created, ObjectId(value[12:])


def cursor_of(document: Mapping[str, Any]) -> str | None:
    """Return the cursor of the page after this snapshot: 36 hex digits that contain its `createdAt` and its id.

    None if `createdAt` is neither a date nor missing, or does not fit into a cursor.
    """
    created = document.get("createdAt")
    if created is None:
        return f"{_UNDATED}{document['_id']}"
    since = -1
    if isinstance(created, datetime | DatetimeMS):
        since = milliseconds(created) if isinstance(created, datetime) else int(created)
    return f"{since:012x}{document['_id']}" if 0 <= since < int(_UNDATED, 16) else None


def _check_page(value: int) -> int:
    if not 1 <= value <= MAX_PAGE:
        raise ValueError(f"should be from 1 to {MAX_PAGE}; for more, pass the `next` of the previous page as `after`")
    return value


Integer = Annotated[int, BeforeValidator(_read_integer)]
Cursor = Annotated[tuple[DatetimeMS | None, ObjectId], BeforeValidator(_read_cursor)]


class ExportQuery(CamelModel):
    """The parameters of `GET /api/training/export`: `quality` and `category`, which both match exactly if given."""

    quality: Label | None = None
    category: Label | None = None

    def condition(self, organization: ObjectId) -> Document:
        """Return the MongoDB filter for the snapshots to export, which excludes archived ones."""
        condition: Document = {"organizationId": organization, "isArchived": NOT_ARCHIVED}
        condition |= {name: value for name, value in self if value is not None}
        return condition


def _read_boolean(value: Any) -> bool:
    if value not in {"true", "false"}:
        raise ValueError("should be true or false")
    return bool(value == "true")


class ErasureQuery(CamelModel):
    """The parameter of `DELETE /api/training/contacts/{id}`: `redactMentions`, `true` or `false`, by default false.

    If it is true, the contact's e-mail addresses and phone numbers are replaced in other people's snapshots, too.
    """

    redact_mentions: Annotated[bool, BeforeValidator(_read_boolean)] = False


class ListQuery(SnapshotFilter):
    """The parameters of `GET /api/training/snapshots`: the filters, and which page of the result.

    `limit` is from 1 to 100 snapshots, by default 20. `after`, the `next` of the previous page, takes precedence over
    `page`, which is from 1 to 1000 and costs more the higher it is.
    """

    page: Annotated[Integer, AfterValidator(_check_page)] = 1
    limit: Annotated[Integer, Field(ge=1, le=MAX_LIMIT)] = 20
    after: Cursor | None = None

    def after_condition(self) -> Document:
        """Return the filter for the snapshots behind `after` in the list, newest first; empty for the first page."""
        if self.after is None:
            return {}
        created, key = self.after
        if created is None:
            return {"$and": [{"createdAt": None}, {"_id": {"$lt": key}}]}
        return {
            "$and": [
                {"createdAt": {"$not": {"$gt": created}}},  # unlike $lte also if it is missing
                {"$or": [{"createdAt": {"$ne": created}}, {"_id": {"$lt": key}}]},
            ]
        }


def refuse_query(request: Request) -> None:
    """Refuse query parameters, for an operation that has none. Raises InvalidRequest, which names them."""
    if request.scope["query_string"]:
        names = sorted({_displayed(name) for name, _ in request.query_params.multi_items()})[:MAX_FAULTS]
        raise InvalidRequest(
            [{"field": name, "message": "is not allowed; this operation has no parameters"} for name in names]
        )


def _displayed(name: str) -> str:
    """Return a parameter's name, which the caller chose, in a form that is safe in an answer."""
    return name.encode("unicode_escape").decode()[:100] or "query"


def read_query(request: Request, model: type[Query], limits: Settings) -> Query:
    """Read and validate the query parameters of a request. An empty one counts as omitted.

    Args:
        request: The HTTP request.
        model: The allowed parameters; the aliases of its fields are their names.
        limits: The settings that limit lengths.

    Raises:
        InvalidRequest: Names each parameter that is unknown, repeated or not valid, and what is allowed.

    Example:
        read_query(request, ListQuery, container.settings).limit
    """
    names = {field.alias for field in model.model_fields.values()}
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in values:
            raise InvalidRequest([{"field": _displayed(name), "message": "should be given once"}])
        values[name] = value
    return model.read({name: value for name, value in values.items() if value or name not in names}, limits)
