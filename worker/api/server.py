"""Runs the app with uvicorn, within the limit on open file descriptors."""

import resource
import socket
import sys

import uvicorn
from starlette.types import ASGIApp

from worker.api.protocol import LimitedProtocol
from worker.log import get_logger

log = get_logger(__name__)

_RESERVED = 56
"""File descriptors reserved for other uses than HTTP connections: MongoDB, Redis, the log, and new connections."""
_MIN_CONNECTIONS = 8
_OPEN_MAX = 10_240
"""The highest limit that macOS accepts, although it reports an infinite one: setrlimit(2), COMPATIBILITY."""
_BACKLOG = 2048
"""How many connections the kernel queues until they are accepted."""


def serve(app: ASGIApp, listening: socket.socket, max_connections: int) -> None:
    """Serve an app with uvicorn until SIGINT or SIGTERM, and finish the requests in progress.

    Args:
        app: The ASGI app.
        listening: The socket to accept connections on; the caller has bound it.
        max_connections: Maximum number of connections; lower if the process may not open that many file descriptors.
    """
    limit = min(max_connections, max(_MIN_CONNECTIONS, raise_open_files() - _RESERVED))
    if limit < max_connections:
        log.warning("http_connections_limited", connections=limit, wanted=max_connections, reserved=_RESERVED)
    config = uvicorn.Config(
        app,
        http=type("Protocol", (LimitedProtocol,), {"max_connections": limit}),
        ws="none",
        loop="uvloop",
        backlog=_BACKLOG,
        workers=1,  # otherwise read from WEB_CONCURRENCY, which may be another program's
        log_config=None,
        proxy_headers=False,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=15,
        timeout_keep_alive=75,
        lifespan="on",
    )
    uvicorn.Server(config).run(sockets=[listening])


def raise_open_files() -> int:
    """Raise the limit on open files as far as this process is allowed to; return the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(soft, min(hard, _OPEN_MAX)) if sys.platform == "darwin" else hard
    if soft != highest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    return highest if highest != resource.RLIM_INFINITY else 1_000_000
