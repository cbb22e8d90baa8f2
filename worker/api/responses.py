"""The responses of the HTTP API: the envelope, and the status of each error.

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
from worker.domain.ledger_entry import ACCEPTED, Failure, LedgerEntry
from worker.errors import InvalidRequest, MessagesNotFound, NotFound, SnapshotError, TransientError
from worker.stores.connections import PLAIN

PATH = "/api/training/snapshots"
EXPORT_PATH = "/api/training/export"
BACKFILLS_PATH = "/api/training/backfills"
EXPORTS_PATH = "/api/training/exports"
CONTACTS_PATH = "/api/training/contacts"
ERASURES_PATH = "/api/training/erasures"
STATISTICS_PATH = "/api/training/stats"
JSON = "application/json"
RETRY_SECONDS = 2
"""Seconds to wait before a retry, in the `Retry-After` of a 503."""

_STATUS = {
    "invalid_request": 400,
    "empty_conversation": 400,
    "statistics_too_slow": 400,
    "contact_not_found": 404,
    "conversation_not_found": 404,
    "messages_not_found": 404,
    "erased": 410,
    "request_id_conflict": 409,
    "backfill_in_progress": 409,
    "legal_hold": 409,
    "empty_selection": 409,
    "too_many_exports": 409,
    "invalid_settings": 503,
    "destination_failed": 503,
    "snapshot_too_large": 413,
}
_FIELDS = {
    "contact_not_found": "contactId",
    "erased": "contactId",
    "conversation_not_found": "conversationId",
    "messages_not_found": "messageIds",
    "empty_selection": "filters",
    "request_id_conflict": "Idempotency-Key",
}
_MAX_MISSING = 50
"""Maximum number of missing message ids that a response names."""

DATES_WITHOUT_ZONE = PLAIN.with_options(tz_aware=False)
"""For documents that are only encoded as JSON. Without time zones, reading and encoding take half the time."""


def _render(value: Any) -> Any:
    if type(value) is ObjectId:
        return str(value)
    if type(value) is datetime and value.tzinfo is None:  # UTC, as PyMongo has it
        return value.isoformat(timespec="milliseconds") + "Z"
    return render(value)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_render).encode


class HttpError(SnapshotError):
    """An error that only the HTTP API has. `code` is ours, `status` is the HTTP status."""

    code = "http_error"
    status: ClassVar[int] = 400
    headers: ClassVar[Mapping[str, str]] = {}


class Unauthorized(HttpError):
    """A valid token is required: Authorization: Bearer <token>."""

    code = "unauthorized"
    status = 401
    headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": "Bearer"}


class TokenMissing(Unauthorized):
    """A token is required: Authorization: Bearer <token>."""

    code = "token_missing"


class TokenExpired(Unauthorized):
    """The token has expired; send a new one."""

    code = "token_expired"


class TokenInvalid(Unauthorized):
    """The token is not valid; send one that this service's key or secret verifies."""

    code = "token_invalid"


class Forbidden(HttpError):
    """The token's role does not permit this."""

    code = "forbidden"
    status = 403


class NotFinished(HttpError):
    """The snapshot is still being made; try again when it is finished."""

    code = "not_finished"
    status = 409


class BodyTooLarge(HttpError):
    """The body is too large."""

    code = "body_too_large"
    status = 413


class RateLimited(HttpError):
    """This user has sent too many requests; wait as long as Retry-After says."""

    code = "rate_limited"
    status = 429


class TooManyInProgress(HttpError):
    """The organization has too many operations in progress; wait until one of them has ended."""

    code = "too_many_in_progress"
    status = 429


class SearchTooSlow(HttpError):
    """The search took too long; narrow it with more filters."""

    code = "search_too_slow"
    status = 400


def encode(value: Any) -> bytes:
    """Encode a document or an envelope as JSON."""
    try:
        text = _encode(value)  # takes a third of the time of rendering everything first
    except ValueError:  # NaN or infinity, which JSON does not have
        text = _encode(render(value))
    # A stored text may have a lone surrogate, which UTF-8 cannot encode.
    return text.encode("utf-8", "replace")


def json_response(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response whose body is already encoded as JSON."""
    return Response(body, status, headers, JSON)


def success(status: int, message: str, data: bytes | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """Return a successful response with the envelope `{success, message, data}`.

    `message`: ASCII text without quotes. `data`: already encoded as JSON; None leaves it out.
    """
    body = b'{"success":true,"message":"%s"' % message.encode()
    return json_response(status, body + (b',"data":%s}' % data if data is not None else b"}"), headers)


def failure(
    status: int,
    message: str,
    code: str,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """Return an error response with the envelope `{success, message, code, errors}`.

    Args:
        status: The HTTP status.
        message: A sentence for people.
        code: The error code for programs.
        errors: The faulty fields, each as `{field, message}`.
        headers: Additional headers, such as Retry-After.
        **more: Additional fields of the envelope.
    """
    body = {"success": False, "message": message, "code": code, "errors": list(errors), **more}
    return json_response(status, encode(body), headers)


def error_response(error: SnapshotError, idempotency_key: str | None = None) -> Response:
    """Return the response to an error. A 503 contains `idempotency_key`: repeat with it."""
    if isinstance(error, HttpError):
        headers = {**error.headers, **error.details.get("headers", {})}
        return failure(error.status, error.message, error.code, error.details.get("errors", ()), headers)
    status = _status(error)
    if status == 503:
        return unavailable(error.public_message, error.code, idempotency_key)
    return failure(status, _message(error), error.code, _errors(error))


def path_not_found() -> Response:
    """Return the 404 for a path that no route has."""
    return failure(404, "Path not found. /docs lists all paths.", "not_found")


def unavailable(message: str, code: str, idempotency_key: str | None = None) -> Response:
    """Return a 503. If it contains an idempotency key, the POST should be repeated with that key."""
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


def pending_response(entry: LedgerEntry, headers: Mapping[str, str] | None = None) -> Response:
    """Return a 202 for a request that has no outcome yet; `Location` is the path to poll."""
    accepted_at = entry.get("acceptedAt", entry["_id"].generation_time)  # retention removes the field
    data = {"_id": entry["_id"], "requestId": entry["requestId"], "status": ACCEPTED, "acceptedAt": accepted_at}
    location = {"Location": f"{PATH}/{entry['_id']}"}
    return success(202, "Training snapshot accepted", encode(data), {**location, **(headers or {})})


def failed_response(error: Failure | None) -> Response:
    """Return the response for a failed request. `error` is the ledger's `{code, message, details}`."""
    if error is None:
        return failure(
            404, "The request failed; the reason is no longer stored (SNAPSHOTS_LEDGER_RETENTION).", "failed"
        )
    code = error["code"]
    # Any other failure is ours, not the caller's; an operator can redrive the request.
    status = _STATUS.get(code, 503)
    errors = _field_errors(code, error["message"], error.get("details") or {})
    return failure(status, error["message"], code, errors)


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
    return _field_errors(error.code, error.message, error.details)


def _field_errors(code: str, message: str, details: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return `[{field, message}]` for the fields at fault."""
    if code == InvalidRequest.code:
        return list(details.get("errors", []))
    if code == MessagesNotFound.code and details.get("missing"):
        missing = details["missing"][:_MAX_MISSING]
        return [{"field": "messageIds", "message": f"{key} is not a message of this contact"} for key in missing]
    return [{"field": _FIELDS[code], "message": message}] if code in _FIELDS else []
