"""Runs the app with uvicorn, within the descriptors that the process may open."""

import asyncio
import resource
import socket
import time
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from worker.api.protocol import LimitedProtocol
from worker.log import get_logger

log = get_logger(__name__)

_RESERVED = 56
"""File descriptors that are not for HTTP connections: those of MongoDB, Redis, the log, and connections being made."""
_MIN_CONNECTIONS = 8
_BACKLOG = 2048
"""Connections that the kernel keeps until they are accepted."""
_ACCEPTS_AT_ONCE = 8
"""Connections accepted before those that are too many are closed."""
_LOG_SECONDS = 10.0


def serve(app: ASGIApp, listening: socket.socket, max_connections: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    limit = min(max_connections, max(_MIN_CONNECTIONS, _open_files() - _RESERVED))
    if limit < max_connections:
        log.warning("http_connections_limited", connections=limit, wanted=max_connections, reserved=_RESERVED)
    config = uvicorn.Config(
        app,
        http=type("Protocol", (LimitedProtocol,), {"max_connections": limit}),
        ws="none",
        backlog=_ACCEPTS_AT_ONCE,
        log_config=None,
        proxy_headers=False,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=15,
        timeout_keep_alive=75,
        lifespan="on",
    )
    _Server(config).run(sockets=[listening])


def _open_files() -> int:
    """The limit on open files, raised as far as the process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1_000_000


class _Server(uvicorn.Server):
    """uvicorn's server. asyncio accepts as many connections at once as the backlog is long, so it gets a short one."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(_BACKLOG)
        asyncio.get_running_loop().set_exception_handler(_Exceptions())


class _Exceptions:
    """Logs seldom that no descriptor is left: asyncio reports it for each attempt, with a traceback."""

    def __init__(self) -> None:
        self._logged_at = -_LOG_SECONDS

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "out of system resource" not in context.get("message", ""):
            loop.default_exception_handler(context)
        elif time.monotonic() - self._logged_at > _LOG_SECONDS:
            self._logged_at = time.monotonic()
            log.warning("http_accept_failed", reason=str(context.get("exception")))
