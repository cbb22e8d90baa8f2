"""The description of a finished export, for the files that describe it (dataset card, Croissant). Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a format that the caller of an export may set. Each format lists those that it has in `takes`.

    Example:
        get_format("messages").rows(snapshot, Options(system="Be kind.", weight_bad=True))
    """

    system: str | None = None
    """System prompt of every row."""
    weight_bad: bool = False
    """Give assistant turns of bad snapshots the weight 0."""


@dataclass(frozen=True, slots=True)
class File:
    """A finished data file."""

    path: str
    """Relative to the folder of the export, with `/`."""
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """A finished export: its name, description and data files."""

    name: str
    description: str
    moment: datetime
    """The moment at which the snapshots were selected."""
    files: Mapping[str, Sequence[File]]
    """The data files of each split that has any, in order. Splits are named as in `SPLITS`."""
    options: Options = field(default_factory=Options)
