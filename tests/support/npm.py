"""Node packages of a test folder: installed once with npm; tests that need them are skipped where that fails."""

import shutil
import subprocess
from pathlib import Path

import pytest


def installed(folder: Path) -> Path:
    """Returns the folder's `node_modules`; needs the npm registry only the first time."""
    modules = folder / "node_modules"
    if not modules.exists():
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed")
        ended = subprocess.run(
            ["npm", "ci", "--silent"], cwd=folder, check=False, timeout=120, capture_output=True, text=True
        )
        if ended.returncode:
            shutil.rmtree(modules, ignore_errors=True)
            pytest.skip(f"npm cannot install the packages of {folder.name}: {ended.stderr[-200:].strip()}")
    return modules
