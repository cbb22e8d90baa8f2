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
    """Look up a format by its name.

    Args:
        name: Such as `messages`; see `FORMATS` for all names.

    Returns:
        The format's only instance, which has no state.

    Raises:
        InvalidRequest: There is no such format. The error names the field `format` and all formats.

    Example:
        get_format("messages").rows(snapshot, Options(system="Be kind."))
    """
    if found := FORMATS.get(name):
        return found
    message = f"is not a format; it is one of {', '.join(FORMATS)}"
    raise InvalidRequest([{"field": "format", "message": message}])
