"""Imports conversations from files: lines → the neutral form → the platform's documents → its collections."""

from worker.importing.files import OnProgress, Refusal, Report, import_files

__all__ = ["OnProgress", "Refusal", "Report", "import_files"]
