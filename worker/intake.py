"""What comes in from outside, read into requests: a Celery task's arguments."""

from collections.abc import Mapping, Sequence
from typing import Any

from worker.errors import InvalidRequest, SnapshotError
from worker.log import get_logger
from worker.models import MAX_REQUEST_ID, SnapshotRequest, check_request_id, json_type
from worker.service import Asked, Service
from worker.settings import Settings
from worker.wakeups import INTERACTIVE

log = get_logger(__name__)

REQUEST = "snapshots.request"
TASK_PREFIX = "task:"


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
    return Asked(request, request.request_id or _derived(celery_id), "task", INTERACTIVE)


def _derived(celery_id: str) -> str:
    """A Celery message's id is its producer's to choose, so the request id made of it is checked as any other."""
    try:
        return TASK_PREFIX + check_request_id(celery_id, MAX_REQUEST_ID - len(TASK_PREFIX))
    except ValueError as error:
        raise InvalidRequest([{"field": "id", "message": f"of the Celery message: {error}"}]) from None


def reject(service: Service, error: SnapshotError, original: Mapping[str | bytes, Any], origin: str) -> None:
    """Keeps a refused entry with its reason in the stream of rejected ones. Raises BrokerUnavailable."""
    service.events.reject(error.outcome(), original, origin)
    # The message names fields and limits, never what was in them.
    log.warning("request_rejected", code=error.code, reason=error.message, origin=origin)
