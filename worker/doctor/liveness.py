"""Container health checks: `python -m worker.doctor.liveness worker` exits with 0 while that process is working.

Each check looks for a sign of life of the process, not of the servers behind it: while Redis or MongoDB is down the
processes wait, and restarting them would not help. The worker and the listener can only be reached through Redis, so
their checks fail while Redis is down.
"""

import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

SILENCE = 60.0
"""Seconds without a sign of life after which beat or a listener counts as dead. Both act at least every few seconds."""
_TIMEOUT = 4.0


def worker() -> str | None:
    """Ping the Celery worker of this host. Returns the problem, or None."""
    from worker.celery import app

    name = f"worker@{socket.gethostname()}"
    answers = app.control.ping([name], timeout=_TIMEOUT, limit=1)
    return None if answers else f"{name} does not answer within {_TIMEOUT:g} s"


def beat(schedule: str) -> str | None:
    """Check the age of the schedule file, which beat writes at each task that it sends (`beat.sync_every=1`)."""
    file = Path(schedule)
    written = [path.stat().st_mtime for path in file.parent.glob(f"{file.name}*")]
    if not written:
        return f"the schedule file {schedule} does not exist"
    silent = time.time() - max(written)
    return None if silent < SILENCE else f"beat has sent no task for {silent:.0f} s"


def listener() -> str | None:
    """Check that a consumer of this host has read from the intake stream recently."""
    from worker.settings import settings

    own = settings()
    with own.redis.client(socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT) as client:
        consumers = client.xinfo_consumers(own.requests_stream, own.consumer_group)
    here = f"{socket.gethostname()}-".encode()
    idle = [consumer["idle"] / 1000 for consumer in consumers if consumer["name"].startswith(here)]
    if not idle:
        return f"no consumer of this host has read from {own.requests_stream}"
    return None if min(idle) < SILENCE else f"the listener has not read for {min(idle):.0f} s"


def api(port: str = "8000") -> str | None:
    """Ask the HTTP API for `/healthz`."""
    return _get(f"http://127.0.0.1:{port}/healthz")


def flower(port: str = "5555") -> str | None:
    """Ask Flower for `/healthcheck`."""
    return _get(f"http://127.0.0.1:{port}/healthcheck")


def _get(url: str) -> str | None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # ignore HTTP_PROXY
    with direct.open(url, timeout=_TIMEOUT) as answer:
        return None if answer.status == 200 else f"{url} answers {answer.status}"


PROBES: dict[str, Callable[..., str | None]] = {
    probe.__name__: probe for probe in (worker, beat, listener, api, flower)
}


def main(arguments: list[str]) -> int:
    """Return 0 if the process is alive, 1 if not, 2 for wrong usage. Prints the problem to standard error."""
    if not arguments or arguments[0] not in PROBES:
        print(f"usage: python -m worker.doctor.liveness {'|'.join(PROBES)} [ARGUMENT]", file=sys.stderr)
        return 2
    try:
        fault = PROBES[arguments[0]](*arguments[1:])
    except Exception as error:  # noqa: BLE001 - any error means that the process could not be reached
        fault = f"{type(error).__name__}: {error}"
    if fault:
        print(fault, file=sys.stderr)
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
