"""Turns a snapshot into rows of a training format. Pure code; each format is one module that is found by its name."""

from worker.formats.base import Format
from worker.formats.dataset import SPLITS, Dataset, File, Options
from worker.formats.registry import FORMATS, get_format
from worker.formats.rows import Row, Skipped, line

__all__ = ["FORMATS", "SPLITS", "Dataset", "File", "Format", "Options", "Row", "Skipped", "get_format", "line"]
