"""The settings: environment variables and secret files, validated once at start."""

from worker.settings.secret_files import PREFIX, read_secret
from worker.settings.variables import Settings, load, settings, unknown_variables

__all__ = ["PREFIX", "Settings", "load", "read_secret", "settings", "unknown_variables"]
