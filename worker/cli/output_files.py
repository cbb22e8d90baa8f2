"""Checks and writes the files and folders that users name for the output of a command."""

import os
from pathlib import Path

from worker.errors import InvalidRequest


def new_folder(path: Path) -> Path:
    """Return the real path of a folder that does not exist yet or is empty. Raises InvalidRequest, OSError.

    A finished folder is later renamed to this path, which is why mount points and the current folder are refused.
    """
    folder = Path(os.path.realpath(path))
    if folder.is_mount():
        raise _refused("should not be a mount point: name a new folder inside it")
    if folder == Path.cwd():
        raise _refused("should not be the current folder: name a new folder")
    if folder.exists() and any(folder.iterdir()):
        raise _refused("should be a new or an empty folder")
    return folder


def check_new_file(path: Path) -> None:
    """Check that a file can be made later. Raises InvalidRequest."""
    if os.path.lexists(path):
        raise _refused("should be a new file")
    if not path.absolute().parent.is_dir():
        raise _refused("should be a new file in a folder that exists")
    if not os.access(path.absolute().parent, os.W_OK):
        raise _refused("should be a new file in a folder that can be written to")


def write_new_file(path: Path, content: bytes) -> None:
    """Write a new file, all of it or nothing. Raises OSError."""
    with path.open("xb") as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.unlink()
            raise


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest([{"field": "output", "message": message}])
