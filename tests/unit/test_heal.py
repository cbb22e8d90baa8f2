"""scripts/heal.py against a fake engine on a socket."""

import importlib.util
import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

FILE = Path(__file__).parents[2] / "scripts" / "heal.py"
PROJECT = "training-snapshots"


class FakeEngine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Containers by id, as the engine's API shows them; None for one that is gone when it is inspected.

    `actions` records the calls that change them.
    """

    daemon_threads = True

    def __init__(self, path: Path, containers: dict[str, dict[str, Any] | None]) -> None:
        super().__init__(str(path), Answers)
        self.containers = containers
        self.actions: list[str] = []
        self.broken: set[str] = set()
        """Containers that cannot be started."""


class Answers(BaseHTTPRequestHandler):
    """Answers the four calls that scripts/heal.py makes."""

    server: FakeEngine

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: object = None) -> None:
        self.send_response(status)
        self.end_headers()
        if body is not None:
            self.wfile.write(json.dumps(body).encode())

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        _, _, key, *_ = parts.path.split("/")
        if key == "json":
            wanted = json.loads(parse_qs(parts.query)["filters"][0])
            assert wanted == {"label": [f"com.docker.compose.project={PROJECT}"]}
            self.answer(200, [{"Id": each} for each in self.server.containers])
        elif found := self.server.containers.get(key):
            self.answer(200, found)
        else:
            self.answer(404, {"message": "no such container"})

    def do_POST(self) -> None:
        self.server.actions.append(self.path)
        if self.path.split("/")[2] in self.server.broken:
            self.answer(500, {"message": "port is already allocated"})
        else:
            self.answer(204)


def container(status: str, code: int = 0, health: str | None = None, policy: str = "unless-stopped") -> dict[str, Any]:
    state: dict[str, Any] = {"Status": status, "ExitCode": code}
    return {
        "State": state | ({"Health": {"Status": health}} if health else {}),
        "Config": {"Labels": {"com.docker.compose.service": f"{status}-{code}"}},
        "HostConfig": {"RestartPolicy": {"Name": policy}},
    }


@pytest.fixture
def heal() -> Any:
    spec = importlib.util.spec_from_file_location("heal", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    monkeypatch.chdir(tmp_path)  # the path of a Unix socket has to be short
    with FakeEngine(Path("engine.sock"), {}) as engine:
        thread = threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield engine
        engine.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("found", "action"),
    [
        (container("exited", 137), "start"),
        (container("running", health="unhealthy"), "restart"),
        (container("running", health="healthy"), None),
        (container("running", health="starting"), None),
        (container("running"), None),
        (container("exited", 0), None),
        (container("exited", 137, policy="no"), None),
        (container("restarting", 1), None),
    ],
)
def test_killed_container_is_started_and_unhealthy_one_is_restarted(
    heal: Any, engine: FakeEngine, found: dict[str, Any], action: str | None
) -> None:
    engine.containers["a1"] = found
    done = heal.heal(str(engine.server_address), PROJECT)
    assert engine.actions == ([f"/containers/a1/{action}"] if action else [])
    assert len(done) == len(engine.actions)


def test_missing_engine_or_refused_call_raises_an_os_error(heal: Any, engine: FakeEngine) -> None:
    with pytest.raises(OSError, match="No such file"):
        heal.heal("/nowhere/engine.sock", PROJECT)
    with pytest.raises(OSError, match="404"):
        heal.call(str(engine.server_address), "GET", "/containers/gone/json")


def test_container_that_is_gone_or_cannot_be_started_leaves_the_others_their_turn(
    heal: Any, engine: FakeEngine
) -> None:
    killed = container("exited", 137)
    engine.containers |= {"gone": None, "broken": killed, "a1": killed}
    engine.broken.add("broken")
    gone, broken, started = heal.heal(str(engine.server_address), PROJECT)
    assert engine.actions == ["/containers/broken/start", "/containers/a1/start"]
    assert gone.startswith("refused: GET /containers/gone/json: 404")
    assert "port is already allocated" in broken
    assert started == "exited-137: start"
