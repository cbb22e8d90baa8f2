"""What the HTTP surface answers: the envelope, and the status of each error.

{"success": true, "message", "data"}
{"success": false, "message", "code", "errors": [{"field", "message"}]}
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from bson import ObjectId
from fastapi import Response

from worker.domain.json_values import render
from worker.errors import InvalidRequest, MessagesNotFound, NotFound, SnapshotError, TransientError
from worker.stores.connections import PLAIN

JSON = "application/json"
RETRY_SECONDS = 2
"""What a 503 advises to wait."""

_STATUS = {
    "invalid_request": 400,
    "empty_conversation": 400,
    "contact_not_found": 404,
    "conversation_not_found": 404,
    "messages_not_found": 404,
    "request_id_conflict": 409,
    "snapshot_too_large": 413,
}
_FIELDS = {
    "contact_not_found": "contactId",
    "conversation_not_found": "conversationId",
    "messages_not_found": "messageIds",
    "request_id_conflict": "Idempotency-Key",
}
_NAMED = 50
"""Missing message ids that an answer names at most."""

DATES_WITHOUT_ZONE = PLAIN.with_options(tz_aware=False)
"""To read documents that are only encoded: they are decoded and encoded in half of the time."""


def _render(value: Any) -> Any:
    if type(value) is ObjectId:
        return str(value)
    if type(value) is datetime and value.tzinfo is None:  # UTC, as PyMongo has it
        return value.isoformat(timespec="milliseconds") + "Z"
    return render(value)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_render).encode


class HttpError(SnapshotError):
    """An answer of the HTTP surface's own; `code` is the class's, `status` HTTP's."""

    code = "http_error"
    status: ClassVar[int] = 400
    headers: ClassVar[Mapping[str, str]] = {}


class Unauthorized(HttpError):
    """A valid token is needed: Authorization: Bearer <token>."""

    code = "unauthorized"
    status = 401
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}


class TokenMissing(Unauthorized):
    """A token is needed: Authorization: Bearer <token>."""

    code = "token_missing"


class TokenExpired(Unauthorized):
    """The token has expired."""

    code = "token_expired"


class TokenInvalid(Unauthorized):
    """The token is not valid."""

    code = "token_invalid"


class Forbidden(HttpError):
    """The token's role may not do this."""

    code = "forbidden"
    status = 403


class NotFinished(HttpError):
    """The snapshot is still being made; try again when it is there."""

    code = "not_finished"
    status = 409


class BodyTooLarge(HttpError):
    """The body is too large."""

    code = "body_too_large"
    status = 413


class RateLimited(HttpError):
    """Too many requests with this token."""

    code = "rate_limited"
    status = 429


def encode(value: Any) -> bytes:
    """A document or an envelope as JSON (DESIGN section 5)."""
    try:
        text = _encode(value)  # a third of the time of rendering all of it first
    except ValueError:  # a number that JSON does not know
        text = _encode(render(value))
    # A stored text may have half a surrogate pair, which no UTF-8 can encode.
    return text.encode("utf-8", "replace")


def answer(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, headers, JSON)


def success(status: int, message: str, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """The envelope around `data`, which is JSON already."""
    body = b'{"success":true,"message":"%s"' % message.encode()
    return answer(status, body + (b',"data":%s}' % data if data is not None else b"}"), headers)


def failure(
    status: int,
    message: str,
    code: str,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """The envelope of an error."""
    body = {"success": False, "message": message, "code": code, "errors": list(errors), **more}
    return answer(status, encode(body), headers)


def error_answer(error: SnapshotError, idempotency_key: str | None = None) -> Response:
    """The answer to whatever was raised. `idempotency_key`: what to repeat the request with, named in a 503."""
    if isinstance(error, HttpError):
        headers = {**error.headers, **error.details.get("headers", {})}
        return failure(error.status, error.message, error.code, error.details.get("errors", ()), headers)
    status = _status(error)
    if status == 503:
        return unavailable(error.message, error.code, idempotency_key)
    return failure(status, _message(error), error.code, _errors(error))


def no_such_path(headers: Mapping[str, str] | None = None) -> Response:
    return failure(404, "There is no such path; /docs has those that there are.", "not_found", headers=headers)


def unavailable(message: str, code: str, idempotency_key: str | None = None) -> Response:
    """503; a POST is repeated with the key that it names."""
    headers = {"Retry-After": str(RETRY_SECONDS)}
    if idempotency_key is None:
        return failure(503, message, code, headers=headers)
    return failure(
        503,
        f"{message} Repeat the request with the same Idempotency-Key.",
        code,
        headers=headers | {"Idempotency-Key": idempotency_key},
        idempotencyKey=idempotency_key,
    )


def failed_answer(outcome: Mapping[str, Any] | None) -> Response:
    """The answer for a request that failed: `outcome` is the ledger's `{code, message, details}`."""
    if outcome is None:
        return failure(404, "The request failed long ago; the reason is no longer kept.", "failed")
    code = outcome["code"]
    # What is left is our fault, not the caller's: an operator can redrive it.
    status = _STATUS.get(code, 503)
    errors = _named(code, outcome["message"], outcome.get("details") or {})
    return failure(status, outcome["message"], code, errors)


def _status(error: SnapshotError) -> int:
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, TransientError):
        return 503
    return _STATUS.get(error.code, 500)


def _message(error: SnapshotError) -> str:
    return "The request is not valid." if isinstance(error, InvalidRequest) else error.message


def _errors(error: SnapshotError) -> list[dict[str, str]]:
    if isinstance(error, InvalidRequest):
        return error.errors
    return _named(error.code, error.message, error.details)


def _named(code: str, message: str, details: Mapping[str, Any]) -> list[dict[str, str]]:
    """The fields at fault."""
    if code == InvalidRequest.code:
        return list(details.get("errors", []))
    if code == MessagesNotFound.code and details.get("missing"):
        missing = details["missing"][:_NAMED]
        return [{"field": "messageIds", "message": f"{each} is not a message of this contact"} for each in missing]
    return [{"field": _FIELDS[code], "message": message}] if code in _FIELDS else []
