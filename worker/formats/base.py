"""What a format is. The modules next to this one are the formats; `worker.formats.registry` finds them."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

Row = dict[str, Any]
"""A row as JSON values. A row for Parquet has a `datetime` as timestamp."""

SPLITS = ("train", "validation", "test")

_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
"""JSON allows these in a string, but readers that split text with `str.splitlines` would break the row there."""


class Skipped(Exception):
    """The format cannot represent the snapshot, which is therefore left out and counted.

    `reason` is a snake_case code that is counted; `detail` is a sentence without text of the conversation.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(reason, detail)

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller of an export may choose."""

    system: str | None = None
    """System prompt of every row; formats without one ignore it."""
    weight_bad: bool = False
    """Give assistant turns of bad snapshots the weight 0 and all others 1; only `messages` has weights."""


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
    """A finished export, as the files that describe it name it."""

    name: str
    description: str
    moment: datetime
    """The moment whose content the export has."""
    files: Mapping[str, Sequence[File]]
    """The data files of each split that has any, in order. Splits are named as in `SPLITS`."""
    options: Options = field(default_factory=Options)


class Format(ABC):
    """Turns snapshots into rows. An instance has no state and may be shared by threads."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Grows whenever the same snapshot would give other rows."""
    suffix: ClassVar[str] = "jsonl"
    """Ending of the data files, without the dot: `jsonl` (one `line` for each row) or `parquet` (`arrow_schema`)."""
    purpose: ClassVar[str]
    """Who reads it, in a few words, for help texts."""

    @abstractmethod
    def rows(self, snapshot: Mapping[str, Any], options: Options) -> list[Row]:
        """Return the rows of a snapshot, which is the stored document as PyMongo returns it. Raises Skipped."""

    def path(self, split: str, index: int, count: int) -> str:
        """Return the path of the data file number `index`, from 0, of the `count` files of a split."""
        return f"{split}.{self.suffix}" if count == 1 else f"{split}-{index:05}-of-{count:05}.{self.suffix}"

    def extra_files(self, dataset: Dataset) -> dict[str, bytes]:
        """Return the files, by path, that readers of the format expect next to the data."""
        return {}

    def arrow_schema(self) -> Any:
        """Return the `pyarrow.Schema` of the rows; None if the format is no Parquet."""
        return None


def line(row: Row) -> bytes:
    """Return a row as one line of JSON Lines: UTF-8, compact, keys in the row's order, with its line feed.

    Raises Skipped if a text is not valid Unicode.
    """
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if not text.isascii():
        text = _LINE_ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError as error:
        raise invalid_text() from error


def invalid_text() -> Skipped:
    """The reason for a text that UTF-8 cannot represent."""
    return Skipped("invalid_text", "A text contains half of a surrogate pair, which UTF-8 cannot represent.")
