"""The product's processes as `snapshots up` runs them, each started through `chaos.launcher`."""

import os
import signal
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from chaos import taken
from chaos.crashpoints import Points
from chaos.servers import TESTS, Servers, accepts
from chaos.supervision import supervised
from support.places import HERE, Place
from worker.erasure.receipt import make_keys
from worker.local.data_folder import DataFolder
from worker.local.processes import Child
from worker.local.stack import processes
from worker.settings import PREFIX, Settings, load

SECRET = "a secret for the chaos run alone, of enough bytes"
ERASURE_KEY = "a key for the chaos run alone"
PLACES: Mapping[str, Place] = dict.fromkeys(("worker1", "worker2", "beat", "listener1", "listener2", "api"), HERE)
"""Which processes run, and where, unless told otherwise."""
WRONG_CLOCKS = {"worker2": "600", "listener2": "-600"}
"""By how many seconds the clocks of these processes are ahead."""
SHORT_VISIBILITY = {"worker2": "4"}
"""After how many seconds without acknowledgement Redis gives a message to another worker."""
_COMMANDS = {"listener": "listen", "api": "api"}


@dataclass
class System:
    """The running processes, which a supervisor starts again when they die."""

    children: dict[str, Child]
    points: Points
    settings: Settings
    apis: list[str]
    """The addresses of the HTTP APIs."""
    deaths: list[str] = field(default_factory=list)
    """Names of those that died during the run."""

    def named(self, kind: str) -> list[Child]:
        """Returns the processes of a kind: `worker`, `listener`, `beat` or `api`."""
        return [child for name, child in self.children.items() if _kind(name) == kind]

    def pool_of(self, worker: Child) -> list[int]:
        """Returns the process ids of a worker's pool."""
        with suppress(psutil.NoSuchProcess):
            return [each.pid for each in psutil.Process(worker.pid).children()]
        return []


def send_signal(pid: int, number: signal.Signals) -> bool:
    """Sends a signal; returns whether the process existed."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def running(
    folder: DataFolder,
    servers: Servers,
    overrides: Mapping[str, str],
    extra: Mapping[str, str],
    without: Collection[str] = (),
    places: Mapping[str, Place] = PLACES,
) -> Iterator[System]:
    """Runs everything but the processes `without`, each in its place, and starts again what dies.

    `overrides` are settings by name; `extra` are environment variables of the launcher.
    """
    signing_key = folder.path / "erasure.pem"
    if not signing_key.exists():
        make_keys(signing_key)
    values = {
        "redis_url": servers.redis_url,
        "mongo_url": servers.mongo_url,
        "mongo_database": "chaos",
        "parent_wait": "3s",
        "settle_seconds": "1",
        "reconcile_interval": "20s",
        "jwt_secret": SECRET,
        "api_rate_limit": "0",
        "erasure_key": ERASURE_KEY,
        "erasure_signing_key": str(signing_key),
        **overrides,
    }
    environment = {f"{PREFIX}{name.upper()}": value for name, value in values.items()}
    points = Points(folder.path / "points")
    taken.file_of(points.folder).unlink(missing_ok=True)  # of an earlier run in this folder
    port = folder.ports("api")["api"]
    environment[f"{PREFIX}API_PORT"] = str(port)
    places = {name: place for name, place in places.items() if name not in without}
    children = _children(folder.path, environment, port, places)
    for name, child in children.items():
        child.argv = places[name].command(_through_entry(child.argv))
        child.env |= {"PYTHONPATH": str(TESTS), "CHAOS_POINTS": str(points.folder), **extra}
        if (clock := WRONG_CLOCKS.get(name)) and "CHAOS_CLOCK" not in extra:
            child.env["CHAOS_CLOCK"] = clock
        if visibility := SHORT_VISIBILITY.get(name):
            child.env["CHAOS_VISIBILITY"] = visibility
    deaths: list[str] = []
    with supervised(children.values(), deaths):
        apis = [f"http://{place.address}:{port}" for name, place in places.items() if _kind(name) == "api"]
        try:
            yield System(children, points, load(**values), apis, deaths)
        finally:
            for child in children.values():  # a stopped process does not receive SIGTERM
                if child.running:
                    send_signal(child.pid, signal.SIGCONT)


def _kind(name: str) -> str:
    return name.rstrip("0123456789")


def _children(folder: Path, environment: dict[str, str], port: int, places: Mapping[str, Place]) -> dict[str, Child]:
    """Returns the processes of the stack, and further listeners and APIs."""
    workers = sum(_kind(name) == "worker" for name in places)
    made = {child.name.replace("listener", "listener1"): child for child in processes(folder, environment, workers)}
    return {name: made.get(name) or _child(name, folder, environment, port, place) for name, place in places.items()}


def _child(name: str, folder: Path, environment: dict[str, str], port: int, place: Place) -> Child:
    """Returns a listener or an API."""
    argv = [sys.executable, "-P", "-c", "", _COMMANDS[_kind(name)]]
    env = environment | {f"{PREFIX}LOG_FORMAT": "json", "TMPDIR": str(folder / "tmp")}
    child = Child(name, argv, env, folder / "logs" / f"{name}.log", grace=30)
    if _kind(name) == "api":
        child.env[f"{PREFIX}API_HOST"] = place.address
        child.ready = lambda: accepts(port, place.address)
    return child


def _through_entry(argv: list[str]) -> list[str]:
    """Rewrites `python -P -c CODE ...`, where the code starts Celery or our command, to use the launcher."""
    python, _, _, code, *arguments = argv
    return [python, "-m", "chaos.launcher", "celery" if "celery" in code else "snapshots", *arguments]
