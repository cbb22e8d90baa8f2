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
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

SOCKET = "/var/run/docker.sock"
INTERVAL = 2.0
"""Seconds between two checks."""
KILLED = 137
"""The exit code after SIGKILL."""
RESTART_POLICY = "unless-stopped"
"""The restart policy of the containers to heal."""


class CallRefused(OSError):
    """The engine answers, but refuses a call: for example, the container is gone or cannot be started."""


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
    """Send a request to the engine and return its answer. Raises CallRefused, OSError if the engine does not answer."""
    connection = Engine(path)
    try:
        connection.request(method, url)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status >= 400:
            raise CallRefused(f"{method} {url}: {answer.status} {body[:200]!r}")
        return json.loads(body) if body else None
    finally:
        connection.close()


def containers(path: str, project: str) -> list[str]:
    """Return the ids of the project's containers."""
    filters = quote(json.dumps({"label": [f"com.docker.compose.project={project}"]}))
    return [each["Id"] for each in call(path, "GET", f"/containers/json?all=1&filters={filters}")]


def needed_action(details: Mapping[str, Any]) -> str | None:
    """Return `start` or `restart`, or None if the container needs neither. `details`: as the engine inspects it."""
    state = details["State"]
    if details["HostConfig"]["RestartPolicy"]["Name"] != RESTART_POLICY:
        return None
    if state["Status"] == "exited" and state["ExitCode"] == KILLED:
        return "start"
    is_unhealthy = state["Status"] == "running" and state.get("Health", {}).get("Status") == "unhealthy"
    return "restart" if is_unhealthy else None


def heal(path: str, project: str) -> list[str]:
    """Check all containers once, and return a line for each action. Raises OSError if the engine does not answer."""
    done = []
    for key in containers(path, project):
        try:
            details = call(path, "GET", f"/containers/{key}/json")
            if action := needed_action(details):
                call(path, "POST", f"/containers/{key}/{action}")
                done.append(f"{details['Config']['Labels']['com.docker.compose.service']}: {action}")
        except CallRefused as error:  # must not keep the containers after it from being healed
            done.append(f"refused: {error}")
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
