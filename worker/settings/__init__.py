"""The settings: environment variables and secret files, validated once at start."""

from worker.settings.variables import PREFIX, Settings, load, read_secret, settings, unknown_variables

__all__ = ["PREFIX", "Settings", "load", "read_secret", "settings", "unknown_variables"]
