"""A file that a process of Celery cannot write is named at its start, with the option and what to do."""

import errno
import os
import subprocess
from pathlib import Path

import pytest
from celery.signals import celeryd_init

import tasks.signals  # noqa: F401 - connects the receivers
from support.commands import COMMAND
from support.programs import Order, run_programs
from worker.exports.places import fault_of_folder
from worker.settings import Settings
from worker.startup.files import fault_of

WORKER = ["-A", "worker", "worker", "-P", "solo", "-c", "1"]
BEAT = ["-A", "worker", "beat"]
FLOWER = ["-A", "worker", "flower", "--port=0"]


def test_each_process_names_the_option_and_the_folder_and_ends(settings: Settings, tmp_path: Path) -> None:
    environment = {
        "SNAPSHOTS_MONGO_URL": settings.mongo_url,
        "SNAPSHOTS_REDIS_URL": settings.redis_url,
        "FLOWER_BASIC_AUTH": "operator:long-enough",
    }
    missing = str(tmp_path / "missing" / "file")
    schedule = ["--schedule", str(tmp_path / "schedule")]
    cases = {
        "--schedule": [*BEAT, "--schedule", missing],
        "--pidfile": [*BEAT, *schedule, "--pidfile", missing],
        "--statedb": [*WORKER, "--statedb", missing],
        "--pidfile ": [*WORKER, "--pidfile", missing],
        "--db": [*FLOWER, f"--db={missing}"],
    }
    ended = run_programs([Order("celery", arguments, environment) for arguments in cases.values()])
    for option, each in zip(cases, ended, strict=True):
        assert (each.code in (1, 2), "Traceback" in each.output) == (True, False), (option, each.output)
        (said,) = [line for line in each.output.splitlines() if option.strip() in line]
        assert f"{missing} cannot be written: create the folder {tmp_path / 'missing'}" in said


@pytest.mark.parametrize("arguments", [["up"], ["celery", "beat"]], ids=" ".join)
def test_deleted_current_directory_is_named(tmp_path: Path, arguments: list[str]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    delete = ["sh", "-c", 'rmdir "$0" && exec "$@"', str(gone)]
    ended = subprocess.run([*delete, *COMMAND, *arguments], cwd=gone, capture_output=True, text=True, check=False)
    assert (ended.returncode in (1, 2), "Traceback" in ended.stderr) == (True, False), ended.stderr
    assert "he current directory no longer exists: change to another" in ended.stderr.replace(";", ":")


def test_file_is_checked_without_being_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert fault_of(Path("new")) is None
    assert "is a folder: specify a file" in str(fault_of(tmp_path))
    assert not list(tmp_path.iterdir())
    if os.geteuid():  # root may write everywhere
        tmp_path.chmod(0o500)
        assert "let this user write there" in str(fault_of(Path("new")))


def test_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.statvfs_result((4096, 4096, 256, 1, 0, 256, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    assert "its disk is full" in (fault_of(tmp_path / "schedule") or "")


def test_semaphores_that_cannot_be_created_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("billiard.Lock", refuse)
    celeryd_init.send(sender=None, options={"pool": "solo"})
    with pytest.raises(SystemExit) as ended:
        celeryd_init.send(sender=None, options={})
    assert ended.value.code == 2


def test_folder_of_exports_may_be_missing_but_not_below_a_file(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    urls = {"": True, "s3://bucket/prefix": True, f"{tmp_path}/new/folder": True, f"file://{tmp_path}/file/x": False}
    for url, usable in urls.items():
        fault = fault_of_folder(settings.model_copy(update={"exports_url": url}))
        assert (fault is None) == usable, fault
        assert usable or f"SNAPSHOTS_EXPORTS_URL: {tmp_path}/file/x cannot be written" in str(fault)
