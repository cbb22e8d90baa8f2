"""What comes in from outside, read into requests: a Celery task's arguments, an entry of the intake stream."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from worker.domain.requests import ConversationResolved, SnapshotRequest, Trigger
from worker.domain.traceparent import read_traceparent
from worker.domain.validation import MAX_REQUEST_ID, check_request_id, json_type
from worker.errors import InvalidRequest, SnapshotError
from worker.log import get_logger
from worker.service import Asked, Service
from worker.settings import Settings
from worker.stores.wakeups import INTERACTIVE

log = get_logger(__name__)

REQUEST = "snapshots.request"
TASK_PREFIX, STREAM_PREFIX = "task:", "stream:"

REQUESTED, RESOLVED = "snapshot.requested", "conversation.resolved"
"""The types of intake entries."""
TYPE_FIELD, DATA_FIELD, CLIENT_FIELD, TRACE_FIELD = b"type", b"data", b"client", b"traceparent"
"""The fields of an intake entry. `client` is optional: our Python client names itself there; so is `traceparent`.
Others are ignored."""


def read_task(args: Sequence[Any], kwargs: Mapping[str, Any], celery_id: str, limits: Settings) -> Asked:
    """The request that a Celery message carries: one JSON object, its only positional argument.

    Without a request id it gets one derived from the message's, so that its redelivery is the same request.
    Raises InvalidRequest.
    """
    if len(args) != 1 or kwargs:
        given = f"{len(args)} positional and {len(kwargs)} named"
        fault = f"should be one positional argument, a JSON object; there are {given}"
        raise InvalidRequest([{"field": "args", "message": fault}])
    if not isinstance(args[0], Mapping):
        raise InvalidRequest([{"field": "args.0", "message": f"should be a JSON object, it is {json_type(args[0])}"}])
    request = SnapshotRequest.read(args[0], limits)
    return Asked(request, request.request_id or task_request_id(celery_id), "task", INTERACTIVE)


def task_request_id(celery_id: str) -> str:
    """Derived from a Celery message's id. That is its producer's to choose, so it is checked as any other.

    Raises InvalidRequest.
    """
    try:
        return TASK_PREFIX + check_request_id(celery_id, MAX_REQUEST_ID - len(TASK_PREFIX))
    except ValueError as error:
        raise InvalidRequest([{"field": "id", "message": f"of the Celery message: {error}"}]) from None


def read_entry(
    fields: Mapping[bytes, bytes], entry_id: str, limits: Settings, queue: str = INTERACTIVE
) -> Asked | ConversationResolved:
    """What an entry of the intake stream asks for, a request to be enqueued on `queue` or a closing.

    Without a request id it gets one derived from the entry's, so that reading it twice is the same request.
    Raises InvalidRequest, which never repeats what the entry holds, but for names of unknown fields.
    """
    kind = _read_type(fields)
    data = _read_data(fields)
    if kind == RESOLVED:
        return ConversationResolved.read(data, limits)
    request = SnapshotRequest.read(data, limits)
    trigger: Trigger = "client" if fields.get(CLIENT_FIELD) else "stream"
    request_id = request.request_id or f"{STREAM_PREFIX}{entry_id}"
    return Asked(request, request_id, trigger, queue, traceparent=read_traceparent(fields.get(TRACE_FIELD)))


def _read_type(fields: Mapping[bytes, bytes]) -> str:
    given = fields.get(TYPE_FIELD)
    if given is None:
        raise _fault("type", f"is required: {REQUESTED} or {RESOLVED}")
    kind = given.decode(errors="replace")
    if kind not in (REQUESTED, RESOLVED):
        raise _fault("type", f"should be {REQUESTED} or {RESOLVED}, it is another")
    return kind


def _read_data(fields: Mapping[bytes, bytes]) -> dict[str, Any]:
    given = fields.get(DATA_FIELD)
    if given is None:
        raise _fault("data", "is required: the request as JSON")
    try:
        given.decode()
    except UnicodeDecodeError as error:
        raise _fault("data", f"should be JSON in UTF-8, byte {error.start} is not") from None
    try:
        data = from_json(given, allow_inf_nan=False)
    except ValueError as error:
        raise _fault("data", f"should be JSON: {error}") from None
    if not isinstance(data, dict):
        raise _fault("data", f"should be a JSON object, it is {json_type(data)}")
    return data


def _fault(field: str, message: str) -> InvalidRequest:
    return InvalidRequest([{"field": field, "message": message}])


def reject(service: Service, error: SnapshotError, original: Mapping[str | bytes, Any], origin: str) -> None:
    """Keeps a refused entry with its reason in the stream of rejected ones. Raises BrokerUnavailable."""
    service.events.reject(error.outcome(), original, origin)
    # The message names fields and limits, never what was in them.
    log.warning("request_rejected", code=error.code, reason=error.message, origin=origin)
