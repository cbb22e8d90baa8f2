"""POST /api/training/snapshots: accepts a request durably and waits for its snapshot."""

import re
from uuid import uuid4

from fastapi import APIRouter, Request, Response

from worker.api.container import container_of
from worker.api.dependencies import MayWrite, read_json
from worker.api.parameters import CREATE_HEADERS
from worker.api.poller import PolledOutcome
from worker.api.queries import refuse_query
from worker.api.responses import PATH, error_response, failed_response, pending_response, success
from worker.api.schemas import LINKS, LOCATION, Done, Pending, Snapshot, error_responses
from worker.domain.ledger_entry import ACCEPTED, FAILED
from worker.domain.requests import SnapshotRequest
from worker.domain.traceparent import TRACEPARENT, read_traceparent
from worker.domain.validation import check_request_id
from worker.errors import InvalidRequest, SnapshotDeleted, SnapshotError
from worker.service import NewRequest
from worker.settings import Settings
from worker.stores.wakeups import BULK, INTERACTIVE

router = APIRouter(tags=["snapshots"])

_MIN_WAIT_IF_FINISHED = 1.0
"""The shortest wait, in seconds, for a snapshot that exists already, even if the caller prefers not to wait."""
_RESPOND_ASYNC = re.compile(r"(^|,)\s*respond-async\s*(,|;|$)")
_WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:,|;|$)", re.ASCII)


@router.post(
    PATH,
    operation_id="createSnapshot",
    status_code=201,
    summary="Make a training snapshot",
    responses={
        201: {"model": Done[Snapshot], "description": "The snapshot was made.", "headers": LOCATION, "links": LINKS},
        200: {"model": Done[Snapshot], "description": "The snapshot was made by an earlier request with this key."},
        202: {
            "model": Done[Pending],
            "description": "The request was accepted; the snapshot is not ready yet.",
            "headers": LOCATION,
            "links": LINKS,
        },
        **error_responses(400, 403, 404, 409, 410, 413),
    },
    openapi_extra={"parameters": CREATE_HEADERS},
)
async def create(request: Request, caller: MayWrite) -> Response:
    """Accepts the request durably, even while Redis is down, and waits for its outcome."""
    app = container_of(request)  # as a dependency it would take 5 % of the time of a POST
    refuse_query(request)
    key = _idempotency_key(request)
    request_id = key or uuid4().hex
    trace = read_traceparent(request.headers.get(TRACEPARENT))
    given = {"organizationId": caller.organization, "userId": caller.user, "requestId": None}
    validated = await read_json(request, app, caller, lambda data: SnapshotRequest.read(data, app.settings, given))
    try:
        queue = INTERACTIVE if app.allowance.take(caller.organization) else BULK
        receipt = await app.accept(NewRequest(validated, request_id, "api", queue, traceparent=trace))
    except SnapshotError as error:
        return error_response(error, request_id)
    seconds, applied = _preferred_wait(request, app.settings)
    if receipt.status != ACCEPTED:
        seconds = max(seconds, _MIN_WAIT_IF_FINISHED)
    outcome = await app.poller.wait(receipt.id, seconds) if seconds else None
    if outcome is None:
        return pending_response(receipt.entry, applied)
    return _outcome_response(outcome, 201 if receipt.created else 200)


def _idempotency_key(request: Request) -> str | None:
    """Return the caller's key, or None. Raises InvalidRequest."""
    values = request.headers.getlist("idempotency-key")
    if not values:
        return None
    try:
        if len(values) > 1:
            raise ValueError("should be given once")
        if not values[0].isascii():
            raise ValueError("should be ASCII")
        return check_request_id(values[0])
    except ValueError as error:
        raise InvalidRequest([{"field": "Idempotency-Key", "message": str(error)}]) from None


def _preferred_wait(request: Request, limits: Settings) -> tuple[float, dict[str, str]]:
    """Return the seconds to wait, and the header that says which preference was applied (RFC 7240)."""
    preferred = ",".join(request.headers.getlist("prefer")).lower()
    longest = limits.api_wait.total_seconds()
    if _RESPOND_ASYNC.search(preferred):
        return 0.0, {"Preference-Applied": "respond-async"}
    if wait := _WAIT.search(preferred):
        return min(float(wait[1]), longest), {"Preference-Applied": f"wait={wait[1]}"}
    return longest, {}


def _outcome_response(outcome: PolledOutcome, status: int) -> Response:
    entry = outcome.entry
    if entry["status"] == FAILED:
        return failed_response(entry.get("error"))
    if outcome.document is None:
        return error_response(SnapshotDeleted())
    location = {"Location": f"{PATH}/{entry['snapshotId']}"}
    return success(status, "Training snapshot created successfully", outcome.document, location)
