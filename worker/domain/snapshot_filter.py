"""The filters that select snapshots, shared by all commands and endpoints, and their translation to MongoDB queries.

Values from the caller are always compared as plain values, never as MongoDB operators.
"""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from bson import DatetimeMS, ObjectId
from pydantic import AfterValidator, BeforeValidator, Field

from worker.clock import EPOCH
from worker.domain.requests import CamelModel, Id, Label, Tag
from worker.domain.validation import check_text

MAX_Q = 200
NOT_ARCHIVED: dict[str, Any] = {"$in": [False, None]}
"""Snapshots that the platform created may lack the field, and then count as not archived."""
_ARCHIVED: dict[str, Any] = {"true": True, "false": NOT_ARCHIVED, "all": {"$in": [False, True, None]}}
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt](\d\d:\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d))?", re.ASCII)


def _read_time(value: Any) -> DatetimeMS:
    """Read an RFC 3339 time with an offset, or a day, which means the start of that day in UTC."""
    if isinstance(value, str) and (match := _TIME.fullmatch(value)):
        day, minute, second, fraction, offset = match.groups()
        try:
            moment = datetime.fromisoformat(f"{day}T{minute or '00:00'}+00:00")
            # With an offset, a time in year 1 or 9999 may exceed datetime. A leap second counts as the next second.
            later = timedelta(seconds=int(second or 0), milliseconds=int((fraction or "0").ljust(3, "0")[:3]))
            if int(second or 0) <= 60:
                since = moment - EPOCH + later - _offset(offset or "Z")
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


def _check_q(value: str) -> str:
    if not 1 <= len(value) <= MAX_Q:
        raise ValueError(f"should have 1 to {MAX_Q} characters, but has {len(value)}")
    return check_text(value)


Time = Annotated[DatetimeMS, BeforeValidator(_read_time)]


class SnapshotFilter(CamelModel):
    """Selects snapshots of an organization. All given filters must match; without any, all that are not archived do.

    `quality`, `category` and `tag` match exactly, `q` matches text within the notes regardless of case, and `from` and
    `to` bound `createdAt`, both inclusively: a day such as `2026-05-01` means its start in UTC.
    """

    quality: Label | None = None
    category: Label | None = None
    tag: Tag | None = None
    contact_id: Id | None = None
    conversation_id: Id | None = None
    from_: Annotated[Time | None, Field(alias="from")] = None
    to: Time | None = None
    is_archived: Literal["true", "false", "all"] = "false"
    q: Annotated[str, AfterValidator(_check_q)] | None = None

    def condition(self, organization: ObjectId) -> dict[str, Any]:
        """Return the filter for the collection of snapshots, which always contains the organization."""
        condition: dict[str, Any] = {"organizationId": organization, "isArchived": _ARCHIVED[self.is_archived]}
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
