"""Starts what `docker kill` ended, and starts anew what is unhealthy: the `heal` profile of docker-compose.yml.

The engine restarts a container whose process ended, but neither one that was killed through the engine itself, which
counts as stopped by an operator, nor one that is unhealthy. Standard library only; speaks to the engine's socket
(https://docs.docker.com/reference/api/engine/). What was stopped in order (`docker compose stop`) is left alone.
"""

import http.client
import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

SOCKET = "/var/run/docker.sock"
INTERVAL = 2.0
"""Seconds between two looks."""
KILLED = 137
"""The exit code of SIGKILL."""
RESTARTED = "unless-stopped"
"""The restart policy of what is to be there always."""


class Engine(http.client.HTTPConnection):
    """The engine at the other end of a socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=90)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(path: str, method: str, url: str) -> Any:
    """The engine's answer. Raises OSError where there is none, or it is none of success."""
    connection = Engine(path)
    try:
        connection.request(method, url)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status >= 400:
            raise OSError(f"{method} {url}: {answer.status} {body[:200]!r}")
        return json.loads(body) if body else None
    finally:
        connection.close()


def ailing(path: str, project: str) -> Iterator[tuple[str, str, str]]:
    """Id, service and what to do (`start`, `restart`) of each container of the project that needs it."""
    filters = quote(json.dumps({"label": [f"com.docker.compose.project={project}"]}))
    for each in ask(path, "GET", f"/containers/json?all=1&filters={filters}"):
        found = ask(path, "GET", f"/containers/{each['Id']}/json")
        state, service = found["State"], found["Config"]["Labels"]["com.docker.compose.service"]
        if found["HostConfig"]["RestartPolicy"]["Name"] != RESTARTED:
            continue
        if state["Status"] == "exited" and state["ExitCode"] == KILLED:
            yield each["Id"], service, "start"
        elif state["Status"] == "running" and state.get("Health", {}).get("Status") == "unhealthy":
            yield each["Id"], service, "restart"


def heal(path: str, project: str) -> list[str]:
    """Looks once, and says what was done. Raises OSError."""
    done = []
    for key, service, order in list(ailing(path, project)):
        ask(path, "POST", f"/containers/{key}/{order}")
        done.append(f"{service}: {order}")
    return done


def main(project: str) -> None:
    """Looks until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.wait(INTERVAL):
        try:
            for each in heal(SOCKET, project):
                print(each, flush=True)
        except OSError as error:
            print(
                f"the engine's socket does not answer ({error}); DOCKER_SOCKET in .env names it",
                file=sys.stderr,
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1])
