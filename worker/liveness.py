"""Health checks of containers: `python -m worker.liveness worker`, which ends with 0 if that process does its work.

Each asks for a sign of life, not for the servers behind it: while Redis or MongoDB is away, the processes wait,
and starting them anew would mend nothing. Only worker and listener can be asked through Redis alone, so their
checks fail with it.
"""

import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

SILENCE = 60.0
"""Seconds that beat or a listener may be silent: a dozen sweeps, a minute of reads that block for a second."""
_TIMEOUT = 4.0


def worker() -> str | None:
    """What is wrong with the Celery worker of this host, or None: it does not answer."""
    from worker.celery import app

    name = f"worker@{socket.gethostname()}"
    answers = app.control.ping([name], timeout=_TIMEOUT, limit=1)
    return None if answers else f"{name} does not answer"


def beat(schedule: str) -> str | None:
    """What is wrong with beat, which writes its schedule at each task that it sends (`beat.sync_every=1`)."""
    file = Path(schedule)
    written = [each.stat().st_mtime for each in file.parent.glob(f"{file.name}*")]
    if not written:
        return f"there is no {schedule}"
    silent = time.time() - max(written)
    return None if silent < SILENCE else f"no task was sent for {silent:.0f} s"


def listener() -> str | None:
    """What is wrong with the listener of this host: none of its consumers has asked for entries lately."""
    import redis

    from worker.settings import settings

    own = settings()
    with redis.Redis.from_url(own.redis_url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT) as client:
        consumers = client.xinfo_consumers(own.requests_stream, own.consumer_group)
    here = f"{socket.gethostname()}-".encode()
    idle = [each["idle"] / 1000 for each in consumers if each["name"].startswith(here)]
    return None if idle and min(idle) < SILENCE else f"it has read nothing for {min(idle, default=0):.0f} s"


def api(port: str = "8000") -> str | None:
    """What is wrong with the HTTP surface."""
    return _get(f"http://127.0.0.1:{port}/healthz")


def flower(port: str = "5555") -> str | None:
    """What is wrong with Flower."""
    return _get(f"http://127.0.0.1:{port}/healthcheck")


def _get(url: str) -> str | None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the environment names
    with direct.open(url, timeout=_TIMEOUT) as answer:
        return None if answer.status == 200 else f"{url} answers {answer.status}"


PROBES: dict[str, Callable[..., str | None]] = {each.__name__: each for each in (worker, beat, listener, api, flower)}


def main(arguments: list[str]) -> int:
    """0 it lives, 1 it does not, 2 wrong use. Standard error says what is wrong (`docker inspect`)."""
    if not arguments or arguments[0] not in PROBES:
        print(f"should be one of {', '.join(PROBES)}", file=sys.stderr)
        return 2
    try:
        fault = PROBES[arguments[0]](*arguments[1:])
    except Exception as error:  # noqa: BLE001 - whatever it is, the process is not seen to live
        fault = f"{type(error).__name__}: {error}"
    if fault:
        print(fault, file=sys.stderr)
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
