"""Around every request: its id, its log record, its measure; and an answer where no one foresaw the error."""

import itertools
import re
import secrets
import time
from collections.abc import MutableMapping
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.api.http_metrics import Measures
from worker.api.responses import failure
from worker.log import get_logger

log = get_logger(__name__)

REQUEST_ID = "x-request-id"
_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_THIS_PROCESS = secrets.token_hex(6)
_numbers = itertools.count(1)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NOT_STORED = (b"cache-control", b"no-store")
"""Answers hold personal data, or are of this moment."""
_LEFT = 499
"""What the metrics say where the client went away before its answer; nginx's number for it."""


class Framing:
    """ASGI, outermost."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0

        async def framed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(REQUEST_ID.encode(), request_id.encode())]
                if not any(name == b"cache-control" for name, _ in message["headers"]):
                    own.append(_NOT_STORED)
                message["headers"] = [*message["headers"], *own]
            await send(message)

        try:
            if _ambiguous(scope):
                await _refuse_ambiguous(scope, receive, framed)
            else:
                await self._app(scope, receive, framed)
        except ClientDisconnect:
            status = _LEFT
        except Exception:
            # The boundary: no caller sees a traceback, and the log has it.
            log.exception("http_request_broken", route=_route(scope))
            if status:
                raise  # the answer has begun: the connection is cut, so that it is not taken for whole
            await failure(500, "The server met an error that no one foresaw.", "internal")(scope, receive, framed)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route, method = _route(scope), scope["method"] if scope["method"] in _METHODS else "other"
        self._measures.answered(method, route, status, seconds)
        if status < 400:
            return  # in the metrics; a line for each would be a tenth of the work
        write = log.info if status < 500 else log.warning
        write("http_request", method=method, route=route, status=status, ms=round(seconds * 1000, 1))


def _ambiguous(scope: Scope) -> bool:
    """Whether two headers say where the body ends: what is in front of us may have followed the other one."""
    names = {name for name, _ in scope["headers"]}
    return b"transfer-encoding" in names and b"content-length" in names


async def _refuse_ambiguous(scope: Scope, receive: Receive, send: Send) -> None:
    """https://www.rfc-editor.org/rfc/rfc9112#section-6.1"""
    fault = {"field": "Content-Length", "message": "should not be given together with Transfer-Encoding"}
    refusal = failure(400, "The request is not valid.", "invalid_request", [fault], {"Connection": "close"})
    await refusal(scope, receive, send)


def _route(scope: Scope) -> str:
    """The route's pattern, never the path: a path may hold anything."""
    route: MutableMapping[str, Any] | Any = scope.get("route")
    return getattr(route, "path", None) or "none"


def _request_id(scope: Scope) -> str:
    """The caller's, if it is fit for a log; else a new one."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID.encode():
            given: str = value.decode("latin-1")
            if _SANE.fullmatch(given):
                return given
    return f"{_THIS_PROCESS}-{next(_numbers)}"
