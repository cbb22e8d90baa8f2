"""The base class of formats. `worker.formats.registry` finds the modules of this package that have a `FORMAT`."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, ClassVar, Protocol

from pydantic.alias_generators import to_camel

from worker.errors import InvalidRequest
from worker.formats.card import card
from worker.formats.dataset import Dataset, Options
from worker.formats.rows import NotRepresentable, Row, check_text, line


class Table(Protocol):
    """Collects the rows of snapshots for one row group of a Parquet file."""

    schema: Any
    """The `pyarrow.Schema` of the rows."""

    @property
    def is_full(self) -> bool:
        """Whether the row group should be written before more snapshots are added."""

    def add(self, snapshot: Mapping[str, Any]) -> int:
        """Add the rows of a snapshot, all or none; return how many. Raises NotRepresentable as `Format.rows` does."""

    def take(self) -> Any:
        """Return the rows as a `pyarrow.Table`, or None if there are none, and forget them."""


class Format(ABC):
    """Turns snapshots into rows of training or evaluation data. An instance has no state and may be shared by threads.

    A subclass sets `name` and `purpose`, implements `rows` and `columns`, and has an instance `FORMAT` in its module,
    which `worker.formats.registry` finds. docs/formats.md explains the steps.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Increased whenever the same snapshot would give different rows."""
    suffix: ClassVar[str] = "jsonl"
    """Ending of the data files, without the dot: `jsonl` (`lines`) or `parquet` (`table`)."""
    purpose: ClassVar[str]
    """The purpose of the format in a few words, for help texts."""
    takes: ClassVar[frozenset[str]] = frozenset()
    """The fields of `Options` that it uses."""
    unread: ClassVar[tuple[str, ...]] = ()
    """Paths of snapshot fields that the rows do not depend on, so that an export need not read them."""
    only_uncompressed: ClassVar[str] = ""
    """The names of readers that cannot read compressed files, for the dataset card."""

    def check(self, options: Options) -> None:
        """Check that the format has the options that are set, and that it can use their values.

        Raises:
            InvalidRequest: Names each option that the format does not have, or whose value it refuses.
        """
        given = {each.name for each in fields(options) if getattr(options, each.name) not in {None, False}}
        errors = [
            {"field": to_camel(name), "message": f"is not an option of the format {self.name}; leave it out"}
            for name in sorted(given - self.takes)
        ]
        if options.system is not None and "system" in self.takes and not _is_prompt(options.system):
            errors.append({"field": "system", "message": "has no visible text, or is not valid Unicode"})
        if errors:
            raise InvalidRequest(errors)

    @abstractmethod
    def rows(self, snapshot: Mapping[str, Any], options: Options) -> list[Row]:
        """Return the rows of a snapshot, as JSON values.

        Args:
            snapshot: The stored document as PyMongo returns it, redacted already if the export redacts.
            options: The options, which `check` has accepted.

        Raises:
            NotRepresentable: The format cannot represent the snapshot. It is then left out and counted by the reason.
        """

    def lines(self, snapshot: Mapping[str, Any], options: Options) -> list[bytes]:
        """Return the rows of a snapshot as lines of JSON, each in UTF-8 with a line feed at its end.

        Raises NotRepresentable as `rows` does, and if a text cannot be encoded as UTF-8.
        """
        return [line(row) for row in self.rows(snapshot, options)]

    @abstractmethod
    def columns(self, options: Options) -> dict[str, Any]:
        """Return the columns of the rows, in the notation of `worker.formats.columns`."""

    def certain_columns(self, options: Options) -> dict[str, Any]:
        """Return the columns that every row is certain to have, for the Croissant description."""
        return self.columns(options)

    def path(self, split: str, index: int, count: int) -> str:
        """Return the path of a data file, relative to the export's folder.

        Args:
            split: `train`, `validation` or `test`.
            index: The number of the file within its split, from 0.
            count: How many files the split has.
        """
        return f"{split}.{self.suffix}" if count == 1 else f"{split}-{index:05}-of-{count:05}.{self.suffix}"

    def extra_files(self, dataset: Dataset) -> dict[str, bytes]:
        """Return the files, by path, that readers of the format expect next to the data: at least a dataset card."""
        return {"README.md": card(dataset, self.columns(dataset.options), list(self.warnings(dataset)))}

    def warnings(self, dataset: Dataset) -> Iterator[str]:
        """Yield a sentence for the dataset card for each fault that readers of the format would not accept."""
        paths = [file.path for files in dataset.files.values() for file in files]
        if self.only_uncompressed and not all(path.endswith(f".{self.suffix}") for path in paths):
            yield f"{self.only_uncompressed} cannot read compressed files: decompress them first."

    def table(self) -> Table:
        """Return a new, empty `Table` for collecting rows. Only formats with the suffix `parquet` have one.

        Raises ModuleNotFoundError if pyarrow is missing.
        """
        raise NotImplementedError


def _is_prompt(text: str) -> bool:
    """Return whether the text has visible characters and can be encoded as UTF-8."""
    try:
        check_text(text)
    except NotRepresentable:
        return False
    return bool(text.strip())
