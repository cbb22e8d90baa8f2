"""Checks the FLOWER_* variables before Flower reads them, because it would end with a traceback that names none."""

import os
from pathlib import Path
from typing import Any

from flower.command import is_flower_envvar
from flower.options import options
from flower.utils import strtobool

from worker.errors import InvalidSettings
from worker.startup.files import fault_of

_LEVELS = ("debug", "info", "warning", "error", "none")
_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}
_MAX_PORT = 65_535


def require_valid() -> None:
    """Raise InvalidSettings if a FLOWER_* variable has a value that Flower cannot use. Unknown ones are ignored."""
    found = {name: os.environ[name] for name in sorted(os.environ) if is_flower_envvar(name)}
    faults = [f"{name}: {fault}" for name, value in found.items() if (fault := _fault(name, value))]
    if faults:
        raise InvalidSettings("; ".join(faults))


def _fault(name: str, value: str) -> str | None:
    key = name.removeprefix("FLOWER_").lower()
    option: Any = options._options[key.replace("_", "-")]
    if option.type not in (*_KINDS, str):
        return "can be set only in a file that --conf names"
    try:
        for each in value.split(",") if option.multiple else [value]:
            strtobool(each) if option.type is bool else option.type(each)
    except ValueError:
        return f"should be {_KINDS[option.type]}"
    if key == "port" and not 0 <= int(value) <= _MAX_PORT:
        return f"should be from 0 to {_MAX_PORT}"
    if key == "logging" and value.lower() not in _LEVELS:
        return f"should be one of {', '.join(_LEVELS)}"
    return fault_of(Path(value)) if key == "unix_socket" and value else None
