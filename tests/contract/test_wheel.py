"""The wheel runs every process in any directory, and has no names in common with another Celery project."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.contacts import Contact
from support.waiting import eventually
from support.wheels import CHECKOUT, SITE_PACKAGES, build, unpack
from worker.client import SnapshotClient
from worker.local.processes import Child
from worker.service import Service
from worker.settings import Settings

# Without `site`, which would add the checkout that `make setup` installed; the dependencies come from PYTHONPATH.
PYTHON = [sys.executable, "-S", "-P"]
COMMAND = [*PYTHON, "-c", "from worker.cli import main; main(prog_name='snapshots')"]
FOREIGN = {
    "worker.py": "raise RuntimeError('this is not the package of training-snapshots')\n",
    "flowerconfig.py": "raise RuntimeError('this is not the flowerconfig of training-snapshots')\n",
    "celeryconfig.py": "task_default_queue = 'foreign'\n",
    "tasks.py": "from celery import Celery\n\napp = Celery()\n\n@app.task\ndef greet():\n    return 'hello'\n",
}
SECRET = "a secret of the tests that is long enough"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(CHECKOUT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content."""
    return unpack(wheel, tmp_path_factory.mktemp("site"))


@pytest.fixture
def environment(installed: Path, settings: Settings, tmp_path: Path) -> dict[str, str]:
    return {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{installed}{os.pathsep}{SITE_PACKAGES}",
        "SNAPSHOTS_REDIS_URL": settings.redis_url,
        "SNAPSHOTS_MONGO_URL": settings.mongo_url,
        "SNAPSHOTS_MONGO_DATABASE": settings.mongo_database,
        "SNAPSHOTS_LOG_FORMAT": "json",
        "SNAPSHOTS_JWT_SECRET": SECRET,
        "FLOWER_BASIC_AUTH": "operator:a password of the tests",
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a Celery project of someone else."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name, content in FOREIGN.items():
        (folder / name).write_text(content)
    return folder


@pytest.fixture
def started(environment: dict[str, str], project: Path, tmp_path: Path) -> Iterator[dict[str, Child]]:
    """Every process, started in the other project's folder."""
    commands = {
        "worker": [
            "celery",
            "worker",
            "-P",
            "prefork",
            "-c",
            "1",
            "--without-gossip",
            "--without-mingle",
            "-l",
            "INFO",
        ],
        "beat": ["celery", "beat", "--schedule", str(tmp_path / "beat"), "-l", "INFO"],
        "listener": ["listen"],
        "api": ["api", "--port", "0", "--json"],
        "flower": ["celery", "flower", "--address=127.0.0.1", "--port=0", f"--db={tmp_path / 'flower'}"],
    }
    signs = {
        "worker": " ready.",
        "beat": "beat: Starting",
        "listener": '"listening"',
        "api": '"ready"',
        "flower": "Visit",
    }
    with ExitStack() as stack:
        children = {}
        for name, arguments in commands.items():
            child = Child(
                name, ["env", "-C", str(project), *COMMAND, *arguments], environment, tmp_path / f"{name}.log"
            )
            child.ready = lambda child=child, sign=signs[name]: sign in child.output()
            stack.callback(child.kill)
            child.start()
            children[name] = child
        for child in children.values():
            child.wait_until_ready(60)
        yield children


def test_wheel_has_one_package_at_its_top_level(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    metadata = "-".join(wheel.name.split("-")[:2]) + ".dist-info"
    assert {name.partition("/")[0] for name in names} == {"worker", metadata}
    assert not [name for name in names if "__pycache__" in name]


def test_every_process_runs_in_the_folder_of_another_celery_project(
    started: dict[str, Child], settings: Settings, service: Service, contact: Contact
) -> None:
    with SnapshotClient(settings.redis_url) as client:
        sent = client.request(contact.organization, contact.id)
        assert client.wait(sent, timeout=60).completed
    swept = service.connections.database.snapshotstate
    eventually(lambda: swept.find_one({"_id": "turn:sweep"}))
    logs = {name: child.output() for name, child in started.items()}
    assert {name: "Error" in log for name, log in logs.items()} == dict.fromkeys(logs, False)
    assert "snapshots.create" in logs["flower"]


def test_another_project_in_the_same_environment_keeps_its_names(
    environment: dict[str, str], project: Path, tmp_path: Path
) -> None:
    program = "from celery import current_app; print(current_app.conf.task_default_queue)"
    greet = [*PYTHON, "-m", "celery", "-A", "tasks", "worker", "--help"]
    for folder, argv, expected in (
        (project, [sys.executable, "-S", "-c", program], "foreign"),
        (tmp_path, [sys.executable, "-S", "-c", program], "celery"),
        (project, [*PYTHON[:2], "-c", "import tasks; print(*tasks.app.tasks)"], "tasks.greet"),
        (project, greet, "Usage"),
    ):
        ended = subprocess.run(
            argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert expected in ended.stdout, ended.stderr
        assert "snapshots" not in ended.stdout
