"""Builds our distributions as wheels, and installs them without pip and without the checkout."""

import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

CHECKOUT = Path(__file__).parents[2]
CLIENT = CHECKOUT / "clients" / "python"
SITE_PACKAGES = Path(str(distribution("redis").locate_file("")))


def build(project: Path, folder: Path) -> Path:
    """Build the wheel of a project with the build backend that `make setup` installs."""
    argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(argv, cwd=project, check=True, capture_output=True, timeout=60)
    (wheel,) = folder.glob("*.whl")
    return wheel


def unpack(wheel: Path, folder: Path) -> Path:
    """Install a pure Python wheel into a folder."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def link_dependencies(wheel: Path, folder: Path) -> list[str]:
    """Link what a wheel requires, and nothing else, from this environment into a folder; return the projects' names."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    pending = [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]
    found: dict[str, Distribution] = {}
    while pending:
        requirement = Requirement(pending.pop())
        if requirement.name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[requirement.name] = distribution(requirement.name)
        pending += found[requirement.name].requires or []
    for each in found.values():
        for top in {file.parts[0] for file in each.files or [] if file.parts[0] != ".."}:
            if top != "__pycache__" and not (folder / top).exists():
                (folder / top).symlink_to(SITE_PACKAGES / top)
    return sorted(found)
