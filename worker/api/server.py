"""Runs the app with uvicorn, within the descriptors that the process may open."""

import resource
import socket

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


def serve(app: ASGIApp, listening: socket.socket, max_connections: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    limit = min(max_connections, max(_MIN_CONNECTIONS, _open_files() - _RESERVED))
    if limit < max_connections:
        log.warning("http_connections_limited", connections=limit, wanted=max_connections, reserved=_RESERVED)
    config = uvicorn.Config(
        app,
        http=type("Protocol", (LimitedProtocol,), {"max_connections": limit}),
        ws="none",
        loop="uvloop",
        backlog=_BACKLOG,
        log_config=None,
        proxy_headers=False,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=15,
        timeout_keep_alive=75,
        lifespan="on",
    )
    uvicorn.Server(config).run(sockets=[listening])


def _open_files() -> int:
    """Raise the limit on open files as far as the process may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1_000_000
