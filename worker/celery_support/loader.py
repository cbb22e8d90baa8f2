"""A Celery loader that finds settings and tasks in this installation only."""

from importlib import import_module
from types import ModuleType
from typing import Any

from celery.loaders.app import AppLoader

from worker.celery_support.layout import import_name


class Loader(AppLoader):
    """Celery's loader without the current directory, which may hold another project's `celeryconfig.py`."""

    def import_from_cwd(self, module: str, imp: Any = None, package: str | None = None) -> ModuleType:
        """Import a module from `sys.path`. `imp`, Celery's import function, is ignored."""
        return import_module(import_name(module), package)
