"""Adds to every request an id, a log record and metrics, and answers unexpected errors."""

import itertools
import re
import secrets
import time
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.api.http_metrics import HttpMetrics
from worker.api.responses import failure, path_not_found
from worker.log import get_logger

log = get_logger(__name__)

REQUEST_ID = "x-request-id"
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_HOST = re.compile(r"([A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?", re.ASCII)
_PROCESS = secrets.token_hex(6)
_numbers = itertools.count(1)
_DEFAULTS = {b"cache-control": b"no-store", b"x-content-type-options": b"nosniff"}
"""Answers hold personal data or describe this moment only. A browser should take no text in them for HTML."""
_CLIENT_CLOSED_REQUEST = 499
"""The status in the metrics if the client disconnected before the response. nginx uses the same number."""


class RequestMiddleware:
    """The outermost ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], (REQUEST_ID.encode(), request_id.encode())]
                given = {name for name, _ in headers}
                message["headers"] = headers + [each for each in _DEFAULTS.items() if each[0] not in given]
            await send(message)

        try:
            if fault := _ambiguity(scope):
                await _refusal(*fault)(scope, receive, send_with_headers)
            elif "\n" in scope["path"]:  # `$` in the pattern of a route would match before it
                await path_not_found()(scope, receive, send_with_headers)
            else:
                await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = _CLIENT_CLOSED_REQUEST
        except Exception:
            # The outermost boundary: the traceback goes to the log, never to the caller.
            log.exception("http_request_failed", route=_route(scope))
            if status:
                raise  # The answer has begun, so the connection is closed: it must not look complete.
            await failure(500, "Internal server error.", "internal")(scope, receive, send_with_headers)
        finally:
            self._record(scope, status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = _route(scope), scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.answered(method, route, status, seconds)
        if status < 400:
            return  # The metrics count it; a log line for each would be a tenth of the work.
        write = log.info if status < 500 else log.warning
        write("http_request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))


def _ambiguity(scope: Scope) -> tuple[str, str] | None:
    """Return the name of a header that a proxy may interpret differently, and its fault, or None.

    https://www.rfc-editor.org/rfc/rfc9112#section-6.1 (lengths), #section-3.2 (Host)
    """
    names = [name for name, _ in scope["headers"]]
    if b"transfer-encoding" in names and b"content-length" in names:
        return "Content-Length", "should not be combined with Transfer-Encoding"
    if any(name == b"transfer-encoding" and value.lower() != b"chunked" for name, value in scope["headers"]):
        return "Transfer-Encoding", "should be chunked; no other coding is supported"
    hosts = names.count(b"host")
    if hosts > 1 or (not hosts and scope["http_version"] != "1.0"):
        return "Host", f"should be given exactly once, but is given {hosts} times"
    if hosts and not _HOST.fullmatch(dict(scope["headers"])[b"host"].decode("latin-1")):
        return "Host", "should be a host name or address, optionally with a port"
    return None


def _refusal(field: str, fault: str) -> Response:
    errors = [{"field": field, "message": fault}]
    return failure(400, "The request is not valid.", "invalid_request", errors, {"Connection": "close"})


def _route(scope: Scope) -> str:
    """Return the route's pattern, never the path, which may contain anything."""
    route: Any = scope.get("route")
    return getattr(route, "path", None) or "none"


def _request_id(scope: Scope) -> str:
    """Return the caller's request id if it is safe to log, otherwise a new one."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID.encode():
            given: str = value.decode("latin-1")
            if _SAFE_ID.fullmatch(given):
                return given
    return f"{_PROCESS}-{next(_numbers)}"
