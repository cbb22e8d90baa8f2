"""Reads what a browser sends: the fields of a form or a query."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import parse_qs

from bson import ObjectId
from fastapi import Request

from worker.api.body import read_body
from worker.api.responses import HttpError
from worker.clock import to_json
from worker.domain.requests import read_object_id
from worker.errors import InvalidRequest

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""No request is older than this. Without the limit, a period before the year 1 would overflow."""
_MAX_FIELDS = 1000
_SMALL = 65_536
"""Up to this size in bytes, a form is parsed in the event loop. Parsing 3 MB of escapes takes a second."""
Fields = Mapping[str, Sequence[str]]
Run = Callable[[Callable[[str], Fields], str], Awaitable[Fields]]


class NotAForm(HttpError):
    """The body must be a form: application/x-www-form-urlencoded, in UTF-8."""

    code = "not_a_form"
    status = 415


class Form:
    """The fields of a form or a query, each of which may have several values."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        """Return the field's last value without surrounding space; empty if it is missing."""
        return self._fields.get(name, [""])[-1].strip()

    def all(self, name: str) -> Sequence[str]:
        """Return all values of a repeatable field."""
        return self._fields.get(name, [])


def query_of(request: Request) -> Form:
    """Return the fields of the query. Raises InvalidRequest."""
    return Form(_parse(request.url.query))


async def read_form(request: Request, max_size: int, run: Run | None = None) -> Form:
    """Read the body. A large one is parsed by `run`, which calls a function in a thread.

    Raises BodyTooLarge, NotAForm, InvalidRequest.
    """
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        raise NotAForm
    body = await read_body(request, max_size)
    try:
        text = body.decode("ascii")
    except ValueError:
        raise NotAForm from None
    return Form(await run(_parse, text) if run and len(text) > _SMALL else _parse(text))


def _parse(encoded: str) -> Fields:
    """Parse a form. Raises InvalidRequest if it is not UTF-8 or has too many fields."""
    try:
        return parse_qs(encoded, keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise invalid("form", f"should be UTF-8 and have at most {_MAX_FIELDS} fields") from None


def invalid(field: str, fault: str) -> InvalidRequest:
    """Return the error for one field."""
    return InvalidRequest([{"field": field, "message": fault}])


def check(field: str, valid: bool, fault: str) -> None:
    """Raise InvalidRequest if the field is not valid."""
    if not valid:
        raise invalid(field, fault)


def object_id(field: str, given: str) -> ObjectId:
    """Read an id of 24 hex digits. Raises InvalidRequest, which names `field`."""
    try:
        return read_object_id(given)
    except ValueError as error:
        raise invalid(field, str(error)) from None


def object_ids(field: str, given: Sequence[str], max_ids: int) -> list[ObjectId]:
    """Read at most `max_ids` ids, without repetitions. Raises InvalidRequest, which names `field`."""
    check(field, len(given) <= max_ids, f"should name at most {max_ids} ids")
    return list(dict.fromkeys(object_id(field, each) for each in given))


def positive_number(field: str, given: str) -> int:
    """Read a whole number from 1. Raises InvalidRequest, which names `field`."""
    number = natural_number(given)
    check(field, number > 0, "should be a positive number")
    return number


def natural_number(given: str) -> int:
    """Return the number, or 0 if the text is not a number."""
    return int(given) if given.isascii() and given.isdecimal() and len(given) < 10 else 0


def local_time(field: str, given: str) -> datetime | None:
    """Read the value of an input of the type `datetime-local`, in UTC. Raises InvalidRequest."""
    if not given:
        return None
    try:
        return datetime.strptime(given[:16], "%Y-%m-%dT%H:%M").replace(tzinfo=UTC)
    except ValueError:
        raise invalid(field, "should be a time such as 2026-05-18T14:30") from None


def exact_time(field: str, given: str) -> datetime:
    """Read a time as `to_json` writes it. Raises InvalidRequest."""
    try:
        time = datetime.fromisoformat(given)
        if to_json(time) == given and time >= _EPOCH:
            return time
    except (ValueError, OverflowError):
        pass
    raise invalid(field, "should be a time such as 2026-05-18T14:30:00.000Z")
