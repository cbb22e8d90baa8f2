"""The secrets directory, in which each file is a secret: Docker and Kubernetes mount it.

No setting is read here: pydantic-settings reads those that are files.
"""

import os
import re
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

from worker.errors import InvalidSettings

PREFIX = "SNAPSHOTS_"
_CONTROL = re.compile("[\\x00-\\x1f\\x7f\\ufeff]")
SECRETS_DIRECTORY = "/run/secrets"
"""The directory in which Docker and Kubernetes mount secrets."""


def directory() -> Path | None:
    """Return the secrets directory, or None if there is none."""
    named = Path(os.environ.get(f"{PREFIX}SECRETS_DIR") or SECRETS_DIRECTORY)
    return named if named.is_dir() else None


def names() -> list[str]:
    """Return the names of the files; none if the directory cannot be read, which `check` reports."""
    mounted = directory()
    with suppress(OSError):
        return [path.name for path in mounted.iterdir()] if mounted else []
    return []


def check(fields: Container[str]) -> None:
    """Check the files in the secrets directory that are settings. `fields`: the settings by name, in lower case.

    Pydantic only warns about a directory, which Docker creates in place of a file that it should mount but cannot find.
    Raises OSError if the directory cannot be read, InvalidSettings.
    """
    mounted = directory()
    for path in mounted.iterdir() if mounted else ():
        if path.name.upper().removeprefix(PREFIX).lower() in fields:
            _read_secret_file(path)


def read_secret(name: str) -> str | None:
    """Read a file in the secrets directory that is not a setting, such as the password of a login.

    Args:
        name: The name of the file.

    Returns:
        The content without surrounding white space, or None if there is no such file or directory.

    Raises:
        InvalidSettings: The file cannot be read, or is not text in UTF-8.
    """
    mounted = directory()
    if mounted is None or not (mounted / name).exists():
        return None
    return _read_secret_file(mounted / name)


def fault_of(value: str) -> str | None:
    """Return what a value of a setting should be, or None. White space at its ends is ignored."""
    text = value.strip()
    try:
        value.encode()
    except UnicodeEncodeError:  # bytes of another encoding
        return "should be text in UTF-8"
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return "should have no quotes around it: they are part of the value, unless a shell removes them"
    if "-----BEGIN" in text:
        return "should be the path of a file, not its content"
    if _CONTROL.search(text):
        return "should have no control characters, such as line breaks, and no byte order mark"
    return None


def _read_secret_file(path: Path) -> str:
    try:
        value = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InvalidSettings(f"{path}: the file cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InvalidSettings(f"{path}: the file should be text in UTF-8") from None
    if fault := fault_of(value):
        raise InvalidSettings(f"{path}: the content {fault}")
    return value
