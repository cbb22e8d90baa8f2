"""Finds the formats: every module of this package that has a `FORMAT`."""

import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from worker.errors import InvalidRequest
from worker.formats.base import Format


def _find() -> dict[str, Format]:
    package = __name__.rpartition(".")[0]
    folder = importlib.import_module(package).__path__
    names = [each.name for each in pkgutil.iter_modules(folder) if each.name != __name__.rpartition(".")[2]]
    modules = (importlib.import_module(f"{package}.{name}") for name in names)
    formats = (module.FORMAT for module in modules if hasattr(module, "FORMAT"))
    return {each.name: each for each in formats}


FORMATS: Mapping[str, Format] = MappingProxyType(_find())
"""All formats by name, in alphabetical order."""


def get_format(name: str) -> Format:
    """Return the format of this name. Raises InvalidRequest, which names the field `format` and all names."""
    if found := FORMATS.get(name):
        return found
    message = f"is not a format; it is one of {', '.join(FORMATS)}"
    raise InvalidRequest([{"field": "format", "message": message}])
