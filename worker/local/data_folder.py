"""The data folder of the embedded servers: permanent or temporary, for one user at a time.

A lock on the file `lock` marks a folder as in use. The servers inherit the lock, so it is held until the last of
them has exited, and no process ids are needed. If a process is killed, its guard removes its temporary folder. If the
guard is killed as well, the folder is unlocked, and the next process removes it.
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
from typing import Annotated

from pydantic import Field, TypeAdapter

from worker.errors import SnapshotError
from worker.local.processes import reaper

TEMPORARY_PREFIX = "training-snapshots-"

# Below the ephemeral ports of Linux (32768) and macOS (49152): there, a client that connects again and again
# to a server that is down may be given the server's port as its own and connect to itself.
PORTS = range(20_000, 32_000)


_OURS = b"private\n"
"""Content of the lock file of a folder that was empty when it was first used."""


class FolderInUse(SnapshotError):
    """Another process uses the data folder."""

    code = "folder_in_use"


_PORTS_FILE = "ports.json"
_Ports = TypeAdapter(dict[str, Annotated[int, Field(ge=1, le=65535)]])


class FolderUnusable(SnapshotError):
    """The data folder cannot be created or written to."""

    code = "folder_unusable"


@dataclass(frozen=True)
class DataFolder:
    """A data folder in use. `lock` is a file descriptor, which the servers inherit."""

    path: Path
    lock: int
    temporary: bool

    def ports(self, *names: str, other: bool = False) -> dict[str, int]:
        """Choose free ports of 127.0.0.1: the previous ones if they are still free, unless `other` is set."""
        last = {} if other else last_ports(self.path)
        chosen: dict[str, int] = {}
        for name in names:
            port = last.get(name)
            chosen[name] = port if port and _is_free(port) else _free_port(taken=set(chosen.values()))
        try:
            (self.path / _PORTS_FILE).write_text(json.dumps(last | chosen))
        except OSError as error:
            raise _unusable(self.path, error) from error
        return chosen


def last_ports(folder: Path) -> dict[str, int]:
    """Return the ports that were chosen last in a data folder, by name; none if it has not been used."""
    with contextlib.suppress(OSError, ValueError):  # absent, or truncated by a crash
        return _Ports.validate_json((folder / _PORTS_FILE).read_text())
    return {}


@contextlib.contextmanager
def data_folder(data: Path | None = None, patience: float = 4.0) -> Iterator[DataFolder]:
    """Open the folder `data`, creating it if necessary, or a temporary one that is removed at the end.

    Only this user can read it, unless it is a folder that has other content.

    Raises FolderInUse if it is not free within `patience` seconds (the servers of a parent that was just killed take
    a moment to exit), and FolderUnusable if it cannot be created or written to.
    """
    if data is None:
        try:
            remove_stale()
            folder = _make_temporary()
        except OSError as error:  # a full disk: Python finds no usable folder, and lists those that it has tried
            advice = "Free space there, or set TMPDIR to another folder"
            raise FolderUnusable(f"No temporary folder can be created: {error.strerror}. {advice}.") from error
        reaper.watch(folder.path)
    else:
        folder = _open(data, patience)
    try:
        yield folder
    finally:
        if folder.temporary:
            shutil.rmtree(folder.path, ignore_errors=True)
            reaper.release(folder.path)
        os.close(folder.lock)


def _open(path: Path, patience: float) -> DataFolder:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_ours = not any(path.iterdir())
        lock = _lock_within(path, patience)
        if is_ours:
            os.write(lock, _OURS)
        if os.pread(lock, len(_OURS), 0) == _OURS:
            path.chmod(0o700)  # not if the folder existed before with other content, such as /tmp
        return DataFolder(path.resolve(), lock, temporary=False)
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> FolderUnusable:
    return FolderUnusable(f"{path} cannot be used as a data folder: {error.strerror}.", folder=str(path))


def remove_stale() -> None:
    """Remove this user's temporary folders that no living process uses."""
    for path in Path(tempfile.gettempdir()).glob(f"{TEMPORARY_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or removed in the meantime
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
        # Another process considered it stale between the two lines and is removing it.
        if lock is not None:
            os.close(lock)


def _lock_within(path: Path, patience: float) -> int:
    deadline = time.monotonic() + patience
    while (lock := _try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise FolderInUse(
                f"{path} is in use by another `snapshots up`. Stop it, or use another folder.", folder=str(path)
            )
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
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the servers do: a port in TIME_WAIT counts as free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
