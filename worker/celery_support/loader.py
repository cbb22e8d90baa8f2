"""Where Celery looks for its settings and the tasks: among what is installed, and nowhere else."""

from importlib import import_module
from types import ModuleType
from typing import Any

from celery.loaders.app import AppLoader


class Loader(AppLoader):
    """Celery's own looks into the current directory first, where another project's `celeryconfig.py` may lie."""

    def import_from_cwd(self, module: str, imp: Any = None, package: str | None = None) -> ModuleType:
        """`imp` is Celery's own way to import, which this one replaces."""
        return import_module(module, package)
