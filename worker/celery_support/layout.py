"""Finds `tasks`, `celeryconfig` and `flowerconfig`: beside `worker` in a checkout, inside it in an installed wheel.

These names are so common that another project in the same environment may have them too. A wheel therefore has
`worker` alone at its top level (pyproject.toml, `force-include`).
"""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_MOVED = ("celeryconfig", "tasks")
IN_WHEEL = (_PACKAGE / "celeryconfig.py").exists()


def import_name(module: str) -> str:
    """Return the import name in this installation of a module that a checkout has under the name `module`."""
    return f"{_PACKAGE.name}.{module}" if IN_WHEEL and module.partition(".")[0] in _MOVED else module


def flower_config() -> Path:
    """Return the path of flowerconfig.py, for Flower's option `--conf`."""
    return (_PACKAGE if IN_WHEEL else _PACKAGE.parent) / "flowerconfig.py"
