"""scripts/setup_environment.py shows what it does, and starts over after an interruption."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "setup_environment.py"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_environment", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    monkeypatch.setattr(loaded, "SECONDS_BETWEEN_LINES", 0)
    return loaded


def test_progress_names_the_package_and_how_many_there_are(
    module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    printing = "print('Collecting a==1'); print('Collecting b-c==2'); print('Installing collected packages: a, b-c')"
    module.Steps().run("installing packages", [sys.executable, "-c", printing], 3)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("s  ")[1] for line in lines] == [
        "installing packages",
        "installing packages: 1 of about 3 collected, now a",
        "installing packages: 2 of about 3 collected, now b-c",
        "installing packages: all are collected, now unpacking them",
    ]


def test_package_index_that_does_not_answer_is_shown(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    printing = "print('WARNING: Retrying (Retry(total=4)) after connection broken')"
    module.Steps().run("installing packages", [sys.executable, "-c", printing])
    assert capsys.readouterr().err.endswith("installing packages: the package index does not answer, trying again\n")


@pytest.mark.skipif(sys.platform != "linux", reason="the packages are Debian's")
def test_missing_library_is_noted_before_anything_is_installed(
    module: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIBRARIES", {"libc.so.6": "libc6", "libnowhere.so.9": "libnowhere9"})
    module._note_missing_libraries()
    assert capsys.readouterr().err.endswith("will need: apt-get install libnowhere9\n")


def test_failed_step_shows_the_output(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(module.StepFailed):
        module.Steps().run("installing", [sys.executable, "-c", "import sys; sys.exit('no such package')"])
    assert "no such package" in capsys.readouterr().err


def test_interrupted_environment_is_created_again(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    (tmp_path / "bin" / "pip").touch()
    unfinished = tmp_path / ".unfinished"
    monkeypatch.setattr(module, "VENV", tmp_path)
    monkeypatch.setattr(module, "UNFINISHED", unfinished)
    assert module._usable(python)
    unfinished.touch()
    assert not module._usable(python)


def test_environment_of_another_user_is_named(
    module: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied", "/x/.venv/.unfinished")

    monkeypatch.setattr(module, "set_up", refuse)
    assert module.main() == 1
    assert capsys.readouterr().err == "setup: /x/.venv/.unfinished cannot be used: Permission denied\n"


def test_interpreter_may_be_in_a_folder_with_a_space(tmp_path: Path) -> None:
    scripts, python = tmp_path / "scripts", tmp_path / "a folder" / "python"
    for folder in (scripts, python.parent):
        folder.mkdir()
    shutil.copy(SCRIPT.with_name("setup.sh"), scripts)
    python.write_text('#!/bin/sh\n[ "$1" = -c ] || echo "ran $1"\n')
    python.chmod(0o755)
    ended = subprocess.run(
        ["sh", "scripts/setup.sh"],
        env={"PATH": os.environ["PATH"], "PYTHON": str(python)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "ran scripts/setup_environment.py\n"
