"""The units of deploy/systemd are valid, and consistent with the commands, the settings and Celery."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import celeryconfig
from worker.cli import main
from worker.settings import PREFIX, Settings
from worker.stores.wakeups import QUEUES

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
PROGRAM = "/opt/training-snapshots/bin/snapshots"
SERVICES = sorted(FOLDER.glob("*.service"))
SECRETS = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {"FLOWER_BASIC_AUTH"}


def commands(service: Path) -> list[str]:
    """The command line that a unit starts."""
    (line,) = (each for each in service.read_text().splitlines() if each.startswith("ExecStart="))
    return line.removeprefix("ExecStart=").split()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    program = tmp_path / "snapshots"
    program.touch(mode=0o755)
    units = shutil.copytree(FOLDER, tmp_path / "units")
    for unit in units.glob("*.service"):
        unit.write_text(unit.read_text().replace(PROGRAM, str(program)))
        unit.rename(unit.with_name(unit.name.replace("@.", "@1.")))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units.glob("*.target"), *units.glob("*.service")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.stem)
def test_unit_starts_a_command_that_exists_and_reads_secrets_that_are_settings(service: Path) -> None:
    program, command, *_ = commands(service)
    assert program == PROGRAM
    assert command in main.list_commands(None)  # type: ignore[arg-type]
    common = (FOLDER / "training-snapshots-.service.d" / "common.conf").read_text()
    assert "\nLimitCORE=0\n" in common
    lines = [each for each in (common + service.read_text()).splitlines() if each.startswith("LoadCredential=")]
    names = {line.removeprefix("LoadCredential=").partition(":")[0] for line in lines}
    assert {f"{PREFIX}MONGO_URL", f"{PREFIX}REDIS_URL"} <= names <= SECRETS
    assert all(line.endswith(f":/etc/training-snapshots/secrets/{line[15:].partition(':')[0]}") for line in lines)


def test_documented_commands_read_the_settings_and_the_secrets_of_the_units() -> None:
    common = (FOLDER / "training-snapshots-.service.d" / "common.conf").read_text()
    (settings,) = re.findall(r"^EnvironmentFile=-(.+)$", common, re.MULTILINE)
    (secrets,) = set(re.findall(r"^LoadCredential=\w+:(.+)/\w+$", common, re.MULTILINE))
    document = (FOLDER.parents[1] / "docs" / "deploy.md").read_text()
    assert f"set -a; . {settings}; SNAPSHOTS_SECRETS_DIR={secrets}; set +a" in document
    assert f"{PROGRAM} doctor" in document


@pytest.mark.parametrize("name", ["worker@", "exporter"])
def test_worker_has_time_for_its_soft_shutdown(name: str) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(FOLDER / f"training-snapshots-{name}.service")
    assert unit.getint("Service", "TimeoutStopSec") >= celeryconfig.worker_soft_shutdown_timeout + 15
    assert unit["Service"]["MemoryMax"] == "768M"
    assert "REMAP_SIGTERM=SIGQUIT" in unit["Service"]["Environment"]


def test_workers_consume_every_queue() -> None:
    consumed = [commands(FOLDER / f"training-snapshots-{name}.service")[-1] for name in ("worker@", "exporter")]
    assert sorted(",".join(consumed).split(",")) == sorted(QUEUES)
