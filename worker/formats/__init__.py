"""Turns a snapshot into rows of a training format. Pure code; each format is one module that is found by its name."""

from worker.formats.base import Dataset, File, Format, Options, Row, Skipped, line
from worker.formats.registry import FORMATS, get_format

__all__ = ["FORMATS", "Dataset", "File", "Format", "Options", "Row", "Skipped", "get_format", "line"]
