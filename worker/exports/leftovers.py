"""Removes the hidden folders that killed commands have left beside the folders that they were writing.

A command holds a lock while it writes, on a file beside its hidden folder. The lock ends with the process, so a
process that can take it knows that the command is dead.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bson import ObjectId

from worker.exports.destination import destination_errors

_LOCK = re.compile(r"\.[0-9a-f]{24}\.lock", re.ASCII)


@contextmanager
def owned(parent: Path, export: ObjectId) -> Iterator[None]:
    """Hold the lock on the hidden folder of an export in `parent` until the block or the process ends.

    Raises DestinationFailed, DestinationUnavailable.
    """
    lock = parent / f".{export}.lock"
    with destination_errors(str(parent)):
        parent.mkdir(parents=True, exist_ok=True)
        descriptor = _hold(lock)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def remove_leftovers(parent: Path) -> None:
    """Remove the hidden folders in `parent` whose commands are dead."""
    for lock in parent.glob(".*.lock"):
        if _LOCK.fullmatch(lock.name):
            with suppress(OSError), lock.open("r+b") as file:
                # Raises if the command is alive, or if the file system has no locks.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(lock)


def _remove(lock: Path) -> None:
    staging = lock.with_suffix("")
    for folder in (staging, staging.with_name(f"{staging.name}.removed")):
        if folder.exists():
            shutil.rmtree(folder)
    lock.unlink(missing_ok=True)


def _hold(lock: Path) -> int:
    """Create and lock the file; return its descriptor. Raises OSError."""
    while True:
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Before it was locked, another command may have removed the file as one of a dead command.
        if lock.exists() and os.path.samestat(lock.stat(), os.fstat(descriptor)):
            return descriptor
        os.close(descriptor)
