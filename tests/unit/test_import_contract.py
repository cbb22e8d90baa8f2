"""The import contract in pyproject.toml: it holds, and it fails for each kind of violation, planted in a copy."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
RUFF = Path(sys.executable).with_name("ruff")

DOWN = "Imports point down"
CIRCLE = "Modules do not import each other in a circle"

EXCEPTIONS = {
    "The core knows no Celery": {
        "celery": "is the Celery app",
        "celery_support": "extends Celery",
        "bootstrap": "builds the publisher of wake-ups",
        "telemetry": "passes traces on in Celery's messages",
        "flower": "extends Flower",
        "doctor": "asks workers over Celery",
        "cli": "has `snapshots celery`",
    },
    "Only the HTTP surface knows HTTP": {
        "api": "is the HTTP API",
        "operations": "has the operations pages",
        "flower": "extends Flower's pages",
        "cli": "has `snapshots api`",
    },
}
"""Packages that such a contract does not list, with the reason."""


@dataclass(frozen=True)
class Violation:
    """A line that is appended to a file of the copy, which is created if it does not exist."""

    id: str
    file: str
    line: str
    contract: str
    """The contract that has to break."""
    named: str
    """Text that its report has to contain."""


VIOLATIONS = [
    Violation("core_imports_http", "worker/service.py", "import worker.api.app", DOWN, "worker.service -> worker.api"),
    Violation(
        "core_imports_web_framework",
        "worker/stores/ledger.py",
        "import fastapi",
        "Only the HTTP surface knows HTTP",
        "worker.stores.ledger -> fastapi",
    ),
    Violation(
        "core_imports_operations_pages",
        "worker/runs/run.py",
        "import worker.operations.routes",
        DOWN,
        "worker.runs.run -> worker.operations",
    ),
    Violation(
        "upward_import_for_type_checking",
        "worker/stores/ledger.py",
        "import typing\nif typing.TYPE_CHECKING:\n    from worker.service import Service",
        DOWN,
        "worker.stores.ledger -> worker.service",
    ),
    Violation(
        "upward_import_inside_a_function",
        "worker/domain/assembly.py",
        "def build() -> None:\n    from worker.stores import ledger",
        DOWN,
        "worker.domain.assembly -> worker.stores",
    ),
    Violation(
        "relative_upward_import", "worker/clock.py", "from . import service", DOWN, "worker.clock -> worker.service"
    ),
    Violation(
        "cycle_between_packages",
        "worker/closings/policies.py",
        "import worker.runs.run",
        DOWN,
        "worker.closings.policies -> worker.runs.run",
    ),
    Violation(
        "cycle_of_api_and_operations",
        "worker/api/app.py",
        "import worker.operations.routes",
        DOWN,
        "worker.api.app -> worker.operations",
    ),
    Violation("sibling_of_one_layer", "worker/sweep/sweep.py", "import worker.runs.run", DOWN, "worker.sweep.sweep"),
    Violation(
        "cycle_within_a_package",
        "worker/stores/connections.py",
        "import worker.stores.ledger",
        CIRCLE,
        "No cycles are allowed in worker.stores",
    ),
    Violation("unlisted_package", "worker/newthing/__init__.py", "", DOWN, "worker.newthing"),
    Violation("unlisted_module", "worker/newthing.py", "", DOWN, "worker.newthing"),
    Violation(
        "import_in_the_package_itself",
        "worker/__init__.py",
        "from worker.celery import app",
        "The package itself imports nothing",
        "worker -> worker.celery",
    ),
    Violation(
        "package_imports_tasks",
        "worker/cli/shared.py",
        "import tasks.requests",
        "The package knows neither its tasks nor its tests",
        "worker.cli.shared -> tasks.requests",
    ),
    Violation(
        "package_imports_the_celery_configuration",
        "worker/runs/run.py",
        "import celeryconfig",
        "The package knows neither its tasks nor its tests",
        "worker.runs.run -> celeryconfig",
    ),
    Violation(
        "use_case_imports_celery",
        "worker/sweep/sweep.py",
        "from celery import current_app",
        "The core knows no Celery",
        "worker.sweep.sweep -> celery",
    ),
    Violation(
        "domain_imports_a_driver",
        "worker/domain/assembly.py",
        "import pymongo",
        "The domain has no I/O",
        "worker.domain.assembly -> pymongo",
    ),
    Violation(
        "data_of_a_page_imports_html",
        "worker/operations/data/jobs.py",
        "import worker.operations.web.errors",
        "Inside the operations pages, imports point down",
        "worker.operations.data.jobs -> worker.operations.web.errors",
    ),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the import contract is about, in a folder of their own."""
    folder = tmp_path_factory.mktemp("contract")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("worker", "tasks"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "celeryconfig.py"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def planted(copy: Path, request: pytest.FixtureRequest) -> Iterator[Violation]:
    """Plants a violation in the copy and removes it afterwards."""
    violation: Violation = request.param
    path = copy / violation.file
    before = path.read_text() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{before or ''}\n{violation.line}\n")
    yield violation
    if before is not None:
        path.write_text(before)
    else:
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()


def test_contract_holds_in_an_unchanged_copy(copy: Path) -> None:
    code, report = _lint(copy)
    assert code == 0, report
    assert "0 broken" in report


@pytest.mark.parametrize("planted", [pytest.param(each, id=each.id) for each in VIOLATIONS], indirect=True)
def test_planted_violation_breaks_the_contract(copy: Path, planted: Violation) -> None:
    code, report = _lint(copy)
    assert code == 1, f"lint-imports did not see it:\n{report}"
    assert f"{planted.contract} BROKEN" in report
    assert planted.named in report


def test_each_contract_is_violated() -> None:
    assert {each.contract for each in VIOLATIONS} == {each["name"] for each in _contracts()}


@pytest.mark.parametrize("contract", EXCEPTIONS)
def test_contract_that_lists_packages_by_hand_lists_each(contract: str) -> None:
    contracts = _contracts()
    (layers,) = (each["layers"] for each in contracts if each["name"] == DOWN)
    packages = {name.strip() for layer in layers for name in layer.split("|")}
    (listed,) = (each["source_modules"] for each in contracts if each["name"] == contract)
    named = {name.removeprefix("worker.") for name in listed} - {"tasks"}
    assert named == packages - set(EXCEPTIONS[contract])


@pytest.mark.parametrize("folder", ["worker/newthing", "worker/stores/newthing"])
def test_folder_without_init_which_import_linter_does_not_see_fails_ruff(copy: Path, folder: str) -> None:
    path = copy / folder / "thing.py"
    path.parent.mkdir()
    try:
        path.write_text("import worker.api.app\n")
        done = subprocess.run(
            [RUFF, "check", "--no-cache", path], cwd=copy, capture_output=True, text=True, check=False
        )
    finally:
        shutil.rmtree(path.parent)
    assert done.returncode == 1
    assert "INP001" in done.stdout


def _contracts() -> list[dict[str, Any]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: list[dict[str, Any]] = settings["tool"]["importlinter"]["contracts"]
    return found


def _lint(folder: Path) -> tuple[int, str]:
    # A wide terminal, so that no line of the report is wrapped.
    environment = os.environ | {"COLUMNS": "1000", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [LINT_IMPORTS, "--no-logo", "--no-cache"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
