"""Turns a snapshot into rows of a training format. Pure code; each format is one module that is found by its name."""

from worker.formats.base import Format
from worker.formats.dataset import SPLITS, Dataset, File, Options
from worker.formats.registry import FORMATS, get_format
from worker.formats.rows import NotRepresentable, Row, line

__all__ = ["FORMATS", "SPLITS", "Dataset", "File", "Format", "NotRepresentable", "Options", "Row", "get_format", "line"]
