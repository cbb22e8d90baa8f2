"""`sudo make cluster` leaves nothing in the checkout that belongs to root."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def test_run_writes_no_bytecode(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    shutil.copytree(CHECKOUT / "tests", tests, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    before = set(tests.rglob("*"))
    (tmp_path / ".venv").symlink_to(sys.prefix)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    recipe = ["make", "-s", "-f", str(CHECKOUT / "Makefile"), "-o", "setup", "cluster", "ARGS=--help"]
    ended = subprocess.run(recipe, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "--fault-seconds" in ended.stdout
    assert set(tests.rglob("*")) == before


def test_setup_continues_as_the_user_who_called_sudo(tmp_path: Path) -> None:
    for name, script in (("id", "echo 0"), ("sudo", 'echo "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {"PATH": path, "SUDO_UID": "1234", "SUDO_GID": "5678", "PYTHON": "python3.12"}
    ended = subprocess.run(
        ["sh", "scripts/setup.sh"], env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == f"-H -u #1234 -g #5678 PYTHON=python3.12 PATH={path} sh scripts/setup.sh"
