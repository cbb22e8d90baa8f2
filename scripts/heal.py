"""Starts killed containers and restarts unhealthy ones: the profile `heal` of docker-compose.yml.

The engine restarts a container whose process exited, but not one that was killed through the engine, which it takes for
an operator's stop, and not an unhealthy one. Containers that were stopped normally (`docker compose stop`) are left
alone. Needs only the standard library; talks to the engine's socket (https://docs.docker.com/reference/api/engine/).
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
"""Seconds between two checks."""
KILLED = 137
"""The exit code after SIGKILL."""
RESTART_POLICY = "unless-stopped"
"""The restart policy of the containers to heal."""


class Engine(http.client.HTTPConnection):
    """A connection to the engine at the path of a socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=90)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def call(path: str, method: str, url: str) -> Any:
    """Send a request to the engine and return its answer. Raises OSError if it fails."""
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
    """Yield id, service and action (`start` or `restart`) of each container of the project that needs it."""
    filters = quote(json.dumps({"label": [f"com.docker.compose.project={project}"]}))
    for container in call(path, "GET", f"/containers/json?all=1&filters={filters}"):
        details = call(path, "GET", f"/containers/{container['Id']}/json")
        state, service = details["State"], details["Config"]["Labels"]["com.docker.compose.service"]
        if details["HostConfig"]["RestartPolicy"]["Name"] != RESTART_POLICY:
            continue
        if state["Status"] == "exited" and state["ExitCode"] == KILLED:
            yield container["Id"], service, "start"
        elif state["Status"] == "running" and state.get("Health", {}).get("Status") == "unhealthy":
            yield container["Id"], service, "restart"


def heal(path: str, project: str) -> list[str]:
    """Check all containers once and return what was done. Raises OSError."""
    done = []
    for key, service, action in list(ailing(path, project)):
        call(path, "POST", f"/containers/{key}/{action}")
        done.append(f"{service}: {action}")
    return done


def main(project: str) -> None:
    """Check the containers until SIGTERM."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    while not stop.wait(INTERVAL):
        try:
            for line in heal(SOCKET, project):
                print(line, flush=True)
        except OSError as error:
            print(
                f"heal: the engine's socket does not answer ({error}); set DOCKER_SOCKET in .env",
                file=sys.stderr,
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1])
