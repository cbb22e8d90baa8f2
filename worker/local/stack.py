"""The whole system on one machine: servers, and the processes that do the work, as children of this one."""

import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from worker.local.data_folder import data_folder
from worker.local.embedded import servers
from worker.local.login import Access, access
from worker.local.processes import Child
from worker.local.supervisor import Died, Supervisor
from worker.settings import PREFIX, Settings, load

WORKERS = 2
"""Celery workers of one process each: on two cores they beat one worker of two."""
_SNAPSHOTS = [sys.executable, "-P", "-c", "from worker.cli import main; main()"]
_CELERY = [sys.executable, "-P", "-c", "import worker.celery; from celery.__main__ import main; main()", "-A", "worker"]
"""The two commands, whatever PATH says and whatever `worker.py` lies in the current directory."""


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""To this machine, whatever proxy the environment names."""


@dataclass(frozen=True)
class Stack:
    """What runs."""

    settings: Settings
    """As the processes have them: with the addresses of the servers."""
    logs: Path
    supervisor: Supervisor
    api: Access


@contextmanager
def stack(settings: Settings, data: Path | None = None, died: Died | None = None) -> Iterator[Stack]:
    """Servers (embedded where the settings name none) and our processes, all answering; stopped in the end.

    `data` is a folder that is kept; without it all that they write goes with them.
    Raises EmbeddedError, FolderInUse, FolderUnusable, ChildFailed.
    """
    with data_folder(data) as folder, servers(settings, folder.path / "servers") as up:
        own = settings.model_copy(update={"redis_url": up.redis_url, "mongo_url": up.mongo_url})
        environment = up.environment() | {f"{PREFIX}MONGO_DATABASE": own.mongo_database}
        with access(own, folder) as entrance, Supervisor(up.children, died) as supervisor:
            children = [*processes(folder.path, environment), _api(folder.path, environment, entrance)]
            for child in children:
                supervisor.add(child)
            yield Stack(load(**own.model_dump()), folder.path / "logs", supervisor, entrance)


def processes(folder: Path, environment: dict[str, str]) -> list[Child]:
    """Workers, beat and listener, not started yet."""
    return [
        *(_celery(folder, environment, f"worker{number + 1}", _worker(number + 1)) for number in range(WORKERS)),
        _celery(folder, environment, "beat", ["beat", "--schedule", str(folder / "beat-schedule")]),
        _listener(folder, environment),
    ]


def _listener(folder: Path, environment: dict[str, str]) -> Child:
    own = environment | {f"{PREFIX}LOG_FORMAT": "json"}
    child = Child("listener", [*_SNAPSHOTS, "listen"], own, folder / "logs" / "listener.log", grace=20.0)
    child.ready = lambda: '"listening"' in child.output()
    return child


def _api(folder: Path, environment: dict[str, str], entrance: Access) -> Child:
    descriptor = entrance.listening.fileno()
    argv = [*_SNAPSHOTS, "api", "--fd", str(descriptor)]
    own = environment | entrance.environment | {f"{PREFIX}LOG_FORMAT": "json"}
    return Child(
        "api",
        argv,
        own,
        folder / "logs" / "api.log",
        ready=lambda: _answers(f"{entrance.url}/healthz"),
        grace=20.0,
        keep_open=[descriptor],
    )


def _answers(url: str) -> bool:
    try:
        with _DIRECT.open(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _worker(number: int) -> list[str]:
    return ["worker", "-P", "prefork", "-c", "1", "-n", f"worker{number}@%h", "--without-gossip", "--without-mingle"]


def _celery(folder: Path, environment: dict[str, str], name: str, arguments: list[str]) -> Child:
    argv = [*_CELERY, *arguments, "--loglevel", "INFO"]
    child = Child(name, argv, environment | {f"{PREFIX}LOG_FORMAT": "json"}, folder / "logs" / f"{name}.log")
    if arguments[0] == "worker":
        child.ready = lambda: " ready." in child.output()
        child.grace = 30.0
    return child
