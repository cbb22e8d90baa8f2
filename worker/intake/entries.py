"""Reads requests and closings from the arguments of a Celery task or the fields of an intake entry."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from worker.domain.json_input import check_size, read_json_object
from worker.domain.requests import ConversationResolved, SnapshotRequest, Trigger
from worker.domain.traceparent import read_traceparent
from worker.domain.validation import MAX_REQUEST_ID, check_request_id, json_type
from worker.errors import InvalidRequest, SnapshotError
from worker.log import get_logger
from worker.service import NewRequest, Service
from worker.settings import Settings
from worker.stores.wakeups import INTERACTIVE

log = get_logger(__name__)

REQUEST, CLOSING = "snapshots.request", "conversations.resolved"
PRODUCER_TASKS = frozenset({REQUEST, CLOSING})
"""The tasks whose messages come from Celery producers, with a whole request or closing."""
TASK_PREFIX, STREAM_PREFIX = "task:", "stream:"

REQUESTED, RESOLVED = "snapshot.requested", "conversation.resolved"
"""The types of intake entries."""
TYPE_FIELD, DATA_FIELD, CLIENT_FIELD, TRACE_FIELD = b"type", b"data", b"client", b"traceparent"
"""The fields of an intake entry. `client`, which our Python client sets, and `traceparent` are optional.
Other fields are ignored."""
TASK_FIELD = b"celery-task-id"
"""The field of an entry that was a Celery message until a worker moved it to the stream: the id of that message."""
_MAX_SHOWN, _MAX_TASK_ID = 65_536, 255
"""Sizes in bytes up to which a rejected entry with that field looks as if its task had rejected it."""


def read_task(
    args: Sequence[Any], kwargs: Mapping[str, Any], celery_id: str, limits: Settings, queue: str = INTERACTIVE
) -> NewRequest:
    """Return the request in a Celery message.

    Args:
        args: The positional arguments of the message. The only valid one is a JSON object, the request.
        kwargs: The keyword arguments, of which there must be none.
        celery_id: The id of the message. A request without an id gets one derived from it, so that a redelivered
            message is the same request.
        limits: The settings that limit lengths and counts.
        queue: The Celery queue on which to enqueue the request.

    Raises:
        InvalidRequest: Names each faulty field, or `args` if there is another number of arguments.
    """
    request = SnapshotRequest.read(_only_argument(args, kwargs, limits), limits)
    return NewRequest(request, request.request_id or task_request_id(celery_id), "task", queue)


def read_closing_task(args: Sequence[Any], kwargs: Mapping[str, Any], limits: Settings) -> ConversationResolved:
    """Return the closing in a Celery message. The parameters and the error are those of `read_task`."""
    return ConversationResolved.read(_only_argument(args, kwargs, limits), limits)


def _only_argument(args: Sequence[Any], kwargs: Mapping[str, Any], limits: Settings) -> Mapping[str, Any]:
    if len(args) != 1 or kwargs:
        given = f"{len(args)} positional and {len(kwargs)} keyword arguments"
        raise _fault("args", f"should be exactly one positional argument, a JSON object; got {given}")
    if not isinstance(args[0], Mapping):
        raise _fault("args.0", f"should be a JSON object, not {json_type(args[0])}")
    check_size(args[0], limits, limits.max_entry_bytes, "args.0")
    return args[0]


def task_request_id(celery_id: str) -> str:
    """Derive a request id from a Celery message's id. The producer chooses that id, so it is validated.

    Raises InvalidRequest.
    """
    try:
        return TASK_PREFIX + check_request_id(celery_id, MAX_REQUEST_ID - len(TASK_PREFIX))
    except ValueError as error:
        raise _fault("id", f"of the Celery message: {error}") from None


def read_entry(
    fields: Mapping[bytes, bytes], entry_id: str, limits: Settings, queue: str = INTERACTIVE
) -> NewRequest | ConversationResolved:
    """Read the request or the closing in an intake entry.

    Args:
        fields: The fields of the entry, as Redis stores them.
        entry_id: The id of the entry. A request without an id gets one derived from it, or from the id of the Celery
            message that the entry was, so that an entry that is read twice is one request.
        limits: The settings that limit lengths and counts.
        queue: The Celery queue on which to enqueue the request.

    Raises:
        InvalidRequest: Quotes nothing of the entry's content except the names of unknown fields.
    """
    kind = _read_type(fields)
    data = _read_data(fields, limits)
    if kind == RESOLVED:
        return ConversationResolved.read(data, limits)
    request = SnapshotRequest.read(data, limits)
    trigger: Trigger = "task" if TASK_FIELD in fields else "client" if fields.get(CLIENT_FIELD) else "stream"
    request_id = request.request_id or _own_request_id(fields, entry_id)
    return NewRequest(request, request_id, trigger, queue, traceparent=read_traceparent(fields.get(TRACE_FIELD)))


def _own_request_id(fields: Mapping[bytes, bytes], entry_id: str) -> str:
    if TASK_FIELD in fields:
        return task_request_id(_text(fields[TASK_FIELD]))
    return f"{STREAM_PREFIX}{entry_id}"


def original_of(fields: Mapping[bytes, bytes], entry_id: str) -> tuple[Mapping[Any, Any], str]:
    """Return the fields to record for a rejected entry, and its origin.

    Normally these are the entry's fields and id. For an entry that was a Celery message, they are `{"args": [data],
    "kwargs": {}}`, as its task would record it, and `task:` with the message's id, unless the message is too large.
    """
    task, data = fields.get(TASK_FIELD), fields.get(DATA_FIELD, b"")
    if task is None or len(task) > _MAX_TASK_ID or len(data) > _MAX_SHOWN:
        return fields, entry_id
    try:
        return {"args": [from_json(data)], "kwargs": {}}, TASK_PREFIX + _text(task)
    except ValueError:  # another program has written it
        return fields, entry_id


def _read_type(fields: Mapping[bytes, bytes]) -> str:
    given = fields.get(TYPE_FIELD)
    if given is None:
        raise _fault("type", f"is required: {REQUESTED} or {RESOLVED}")
    kind = _text(given)
    if kind not in (REQUESTED, RESOLVED):
        raise _fault("type", f"should be {REQUESTED} or {RESOLVED}")
    return kind


def _read_data(fields: Mapping[bytes, bytes], limits: Settings) -> dict[str, Any]:
    given = fields.get(DATA_FIELD)
    if given is None:
        raise _fault("data", "is required: the request as a JSON object")
    return read_json_object(given, limits, limits.max_entry_bytes, "data")


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _fault(field: str, message: str) -> InvalidRequest:
    return InvalidRequest([{"field": field, "message": message}])


def reject(service: Service, error: SnapshotError, original: Mapping[str | bytes, Any], origin: str) -> None:
    """Add a rejected entry with the reason to the stream of rejected entries. Raises BrokerUnavailable.

    `original`: the rejected fields. `origin`: the id of the stream entry, or `task:` and the id of the Celery message.
    """
    service.events.reject(error.outcome(), original, origin)
    # The message names fields and limits, never what an entry contains.
    log.warning("request_rejected", code=error.code, reason=error.message, origin=origin)
