"""The whole stack on one machine: servers and our own processes, as children of this one."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.erasure.receipt import check_signing_key, make_keys
from worker.local.dashboard import DIRECT, Dashboard, api_environment, dashboard
from worker.local.data_folder import data_folder
from worker.local.embedded import servers
from worker.local.example import first_conversation
from worker.local.login import Login, login, stored_secret
from worker.local.processes import Child
from worker.local.supervisor import OnExit, Supervisor
from worker.settings import PREFIX, Settings, load
from worker.startup.process import require
from worker.stores.connections import Connections

WORKERS = 2
"""Celery workers with one pool process each: on two cores faster than one worker with two."""
_SNAPSHOTS = [sys.executable, "-P", "-c", "from worker.cli import main; main()"]
"""The command, independent of PATH and of a `worker.py` in the current directory."""


OnStart = Callable[[str], None]
"""Called with the name of each part before it is started."""


@dataclass(frozen=True)
class Stack:
    """A running stack: the servers and processes that `snapshots up` starts, and how to reach them."""

    settings: Settings
    """The settings of the processes, with the addresses of the servers."""
    folder: Path
    """The data folder; its subfolder `logs` has the output of our processes."""
    supervisor: Supervisor
    api: Login
    flower: Dashboard


@contextmanager
def stack(
    settings: Settings,
    data: Path | None = None,
    on_exit: OnExit | None = None,
    on_start: OnStart = lambda name: None,
) -> Iterator[Stack]:
    """Start servers (embedded ones if the settings name none) and our processes; stop them at the end.

    Args:
        settings: The servers that they name are used; the others are started.
        data: A permanent data folder. None: a temporary one, which is removed at the end.
        on_exit: Called when a process exits, before it is restarted.
        on_start: Called with the name of each part before it is started.

    Raises:
        EmbeddedError, FolderInUse, FolderUnusable, ChildFailed, PortInUse: A part cannot be started.
        UnusableServer, StoreUnavailable, BrokerUnavailable: A server that the settings name cannot be used.
    """
    wanted = {"MongoDB": "mongo_url", "Redis": "redis_url"}
    if missing := [name for name, setting in wanted.items() if setting not in settings.model_fields_set]:
        on_start(" and ".join(missing))
    _check_named_servers(settings)
    with data_folder(data) as folder, servers(settings, folder.path / "servers") as up:
        exports = settings.exports_url or str(folder.path / "exports")
        addresses = {"redis_url": up.redis_url, "mongo_url": up.mongo_url, "exports_url": exports}
        keys = _erasure_keys(settings, folder.path)
        own = settings.model_copy(update=addresses | keys)
        check_signing_key(own)  # the generated one may be damaged
        environment = up.environment() | {
            f"{PREFIX}MONGO_DATABASE": own.mongo_database,
            f"{PREFIX}EXPORTS_URL": exports,
            **{f"{PREFIX}{name.upper()}": str(key) for name, key in keys.items()},
        }
        example = first_conversation(own)
        if example and str(example.organization) == stored_secret(folder.path, "organization"):
            example = None  # a sample conversation
        with login(own, folder, example) as api_login, Supervisor(up.children, on_exit) as supervisor:
            flower = dashboard(own, folder, api_login.url)
            # Flower's start takes seconds; it needs no other process than Redis.
            on_start("flower")
            flower_child = supervisor.add(_flower(folder.path, environment, flower), wait=False)
            api_child = api(folder.path, environment | api_environment(own, flower), api_login)
            for child in [*processes(folder.path, environment), api_child]:
                on_start(child.name)
                supervisor.add(child)
            flower_child.wait_until_ready()
            yield Stack(load(**own.model_dump()), folder.path, supervisor, api_login, flower)


def _erasure_keys(settings: Settings, folder: Path) -> dict[str, Any]:
    """Return generated keys for erasures, stored in the data folder; none if the settings name one of them.

    They are stored next to the database, because its tombstones are useless without the key.
    """
    if settings.model_fields_set & {"mongo_url", "erasure_key", "erasure_signing_key"}:
        return {}
    signing = (folder / "erasure.pem").resolve()
    if not signing.exists():
        make_keys(signing)
    return {"erasure_key": stored_secret(folder, "erasure"), "erasure_signing_key": signing}


def _check_named_servers(settings: Settings) -> None:
    named = settings.model_fields_set
    with closing(Connections(settings)) as connections:
        for risk in require(connections, mongo="mongo_url" in named, redis="redis_url" in named):
            print(f"Warning: {risk}", file=sys.stderr)


def processes(folder: Path, environment: Mapping[str, str], workers: int = WORKERS) -> list[Child]:
    """Return workers, beat and listener, not started yet.

    Args:
        folder: The data folder; its subfolder `logs` gets their output.
        environment: The variables that they get, with the addresses of the servers.
        workers: How many workers, with one process each.
    """
    return [
        *(_celery(folder, environment, f"worker{number + 1}", _worker(number + 1)) for number in range(workers)),
        _celery(folder, environment, "beat", ["beat", "--schedule", str(folder / "beat-schedule")]),
        _listener(folder, environment),
    ]


def _environment(folder: Path, environment: Mapping[str, str]) -> dict[str, str | None]:
    """Add JSON logs, and keep temporary files in the data folder: a killed pool process leaves some behind.

    The level of the logs is INFO or DEBUG, because a process logs at INFO that it is ready. Only the API gets the
    secret that signs tokens.
    """
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    level = "DEBUG" if os.environ.get(f"{PREFIX}LOG_LEVEL") == "DEBUG" else "INFO"
    log = {f"{PREFIX}LOG_FORMAT": "json", f"{PREFIX}LOG_LEVEL": level}
    return {f"{PREFIX}JWT_SECRET": None, **environment, **log, "TMPDIR": str(temporary)}


def _listener(folder: Path, environment: Mapping[str, str]) -> Child:
    own = _environment(folder, environment)
    child = Child("listener", [*_SNAPSHOTS, "listen"], own, folder / "logs" / "listener.log", grace=20.0)
    child.ready = lambda: '"listening"' in child.output()
    return child


def api(folder: Path, environment: Mapping[str, str], api_login: Login) -> Child:
    """Return the API, not started yet. `environment`: variables of all processes. `api_login`: socket and secret."""
    descriptor = api_login.listening.fileno()
    argv = [*_SNAPSHOTS, "api", "--fd", str(descriptor)]
    own = _environment(folder, {**environment, **api_login.environment})
    return Child(
        "api",
        argv,
        own,
        folder / "logs" / "api.log",
        ready=lambda: _answers(f"{api_login.url}/healthz"),
        grace=20.0,
        keep_open=[descriptor],
    )


def _flower(folder: Path, environment: Mapping[str, str], own: Dashboard) -> Child:
    child = _celery(folder, {**environment, **own.environment}, "flower", ["flower"])
    child.ready = lambda: _answers(f"{own.url}/healthcheck")
    return child


def _answers(url: str) -> bool:
    try:
        with DIRECT.open(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _worker(number: int) -> list[str]:
    return ["worker", "-P", "prefork", "-c", "1", "-n", f"worker{number}@%h", "--without-gossip", "--without-mingle"]


def _celery(folder: Path, environment: Mapping[str, str], name: str, arguments: list[str]) -> Child:
    argv = [*_SNAPSHOTS, "celery", *arguments]
    child = Child(name, argv, _environment(folder, environment), folder / "logs" / f"{name}.log")
    if arguments[0] == "worker":
        child.ready = lambda: " ready." in child.output()
        child.grace = 30.0
    return child
