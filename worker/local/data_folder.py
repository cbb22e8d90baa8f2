"""The folder that embedded servers keep their data in: one user at a time, kept or temporary.

A lock on the file `lock` says that a folder is in use. The servers inherit the lock, so it lasts until the
last of them is gone, and needs no process ids. A temporary folder that no one has locked is a killed
process's, and the next one removes it.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.errors import SnapshotError

TEMPORARY_PREFIX = "training-snapshots-"

# Below the ephemeral ports of Linux (32768) and macOS (49152): there, a client that connects again and again
# to a server that is down may be given the server's port as its own and connect to itself.
PORTS = range(20_000, 32_000)


class FolderInUse(SnapshotError):
    """Another process uses the data folder."""

    code = "folder_in_use"


class FolderUnusable(SnapshotError):
    """The data folder cannot be made or written to."""

    code = "folder_unusable"


@dataclass(frozen=True)
class DataFolder:
    """`lock`: a file descriptor, which the servers inherit."""

    path: Path
    lock: int
    temporary: bool

    def ports(self, *names: str, other: bool = False) -> dict[str, int]:
        """Ports of 127.0.0.1 that are free: the ones of last time where they still are, unless `other` are wanted."""
        file = self.path / "ports.json"
        last: dict[str, int] = {}
        if not other:
            with contextlib.suppress(FileNotFoundError, ValueError):  # cut short by a crash, at worst
                last = json.loads(file.read_text())
        chosen: dict[str, int] = {}
        for name in names:
            port = last.get(name)
            chosen[name] = port if port and _is_free(port) else _free_port(taken=set(chosen.values()))
        file.write_text(json.dumps(last | chosen))
        return chosen


@contextlib.contextmanager
def data_folder(data: Path | None = None, patience: float = 10.0) -> Iterator[DataFolder]:
    """The folder `data`, made if absent; or a temporary one that is removed in the end.

    Raises FolderInUse when it is not free within `patience` seconds (the servers of a parent that was just
    killed take a moment to end), FolderUnusable when it cannot be made or written to.
    """
    if data is None:
        remove_stale()
        folder = _make_temporary()
    else:
        folder = _open(data, patience)
    try:
        yield folder
    finally:
        if folder.temporary:
            shutil.rmtree(folder.path, ignore_errors=True)
        os.close(folder.lock)


def _open(path: Path, patience: float) -> DataFolder:
    try:
        path.mkdir(parents=True, exist_ok=True)
        return DataFolder(path.resolve(), _lock_within(path, patience), temporary=False)
    except OSError as error:
        said = f"{path} cannot be used as a data folder: {error.strerror}."
        raise FolderUnusable(said, folder=str(path)) from error


def remove_stale() -> None:
    """Remove this user's temporary folders that no living process uses."""
    for path in Path(tempfile.gettempdir()).glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):  # another's, or gone in the meantime
            if path.stat().st_uid != os.getuid() or not (path / "lock").exists():
                continue
            lock = _try_lock(path)
            if lock is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)


def _make_temporary() -> DataFolder:
    while True:
        path = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
        lock = _try_lock(path)
        if lock is not None and os.fstat(lock).st_nlink > 0:
            return DataFolder(path, lock, temporary=True)
        # Another process took it for stale between the two lines and removes it.
        if lock is not None:
            os.close(lock)


def _lock_within(path: Path, patience: float) -> int:
    deadline = time.monotonic() + patience
    while (lock := _try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise FolderInUse(f"{path} is in use by another process", folder=str(path))
        time.sleep(0.05)
    return lock


def _try_lock(path: Path) -> int | None:
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _free_port(taken: set[int]) -> int:
    while (port := secrets.choice(PORTS)) in taken or not _is_free(port):
        continue
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
