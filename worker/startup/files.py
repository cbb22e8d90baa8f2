"""Checks whether a file can be written, before a process needs to write it."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def fault_of(path: Path) -> str | None:
    """Return why a file cannot be written, and what to do, or None. A clause without a full stop."""
    try:
        folder = path.absolute().parent
    except FileNotFoundError:
        return f"{path} cannot be written: the current directory no longer exists; change to another directory"
    if os.path.isfile(folder):  # noqa: PTH113 - Path.is_file raises if a parent must not be read
        return f"{path} cannot be written: {folder} is a file; choose another path"
    if not os.path.isdir(folder):  # noqa: PTH112
        return f"{path} cannot be written: create the folder {folder}, or choose another file"
    if os.path.isdir(path):  # noqa: PTH112
        return f"{path} is a folder: specify a file"
    if _is_disk_full(folder):
        return f"{path} cannot be written: its disk is full; free space, or choose another file"
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):  # noqa: PTH110
        return f"{path} cannot be written: allow this user to write there, or choose another file"
    return None


def _is_disk_full(folder: Path) -> bool:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_blocks > 0 and disk.f_bavail == 0


def require_files(files: Mapping[str, str | None]) -> None:
    """End a process of Celery with code 2 and one sentence if one of these files, by option, cannot be written."""
    for option, path in files.items():
        if path and (fault := fault_of(Path(path))):
            print(f"Error: {option}: {fault}.", file=sys.stderr)
            raise SystemExit(2)
