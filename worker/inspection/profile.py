"""Profiles sampled documents: their paths, the types of the values and, if they are few, the values."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bson import DatetimeMS, ObjectId

from worker.domain.normalize import read_time
from worker.inspection.expected import DATE_TEXT, ID
from worker.settings.field_mapping import is_part
from worker.source.ids import read_id

_LOOKS = {
    "email": re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+"),
    "phone": re.compile(r"\+?[\d(][\d\s()./-]{5,19}"),
    "sentence": re.compile(r"[^<\s].*\s.*", re.DOTALL),
}
"""What text may look like. Text of several words that begins with `<` is mark-up."""
_NAME = re.compile(r"[^\W\d_][^\d@<>/\\:;!?]{0,29}(?<!\.)")
_MAX_LEVELS = 5
_MAX_PATHS = 1000
_MAX_VALUES = 20
_MAX_VALUE_LENGTH = 40
_MAX_IDS = 100
_KINDS = (
    (ObjectId, "objectId"),
    (str, "string"),
    (bool, "bool"),
    (int | float, "number"),
    (datetime | DatetimeMS, "date"),
    (Mapping, "object"),
    (list, "array"),
    (type(None), "null"),
)


@dataclass
class PathProfile:
    """The values of the sampled documents at one path."""

    present: int = 0
    """How many documents have a value other than null."""
    kinds: Counter[str] = field(default_factory=Counter)
    """The types of the values, except null."""
    ids: Counter[ObjectId] = field(default_factory=Counter)
    """How often each of up to 100 different ids occurs."""
    id_count: int = 0
    values: Counter[str] | None = field(default_factory=Counter)
    """The values as they are written in settings, or None if there are more than 20 or they are not short names."""

    looks: Counter[str] = field(default_factory=Counter)
    """How many values are text that looks like a time (`DATE_TEXT`), an `email`, a `phone`, a `name`, a `sentence`."""

    def accepted(self, kinds: Iterable[str]) -> int:
        """Return how many values have one of these types."""
        counts = {ID: self.id_count, DATE_TEXT: self.looks[DATE_TEXT]}
        return sum(counts.get(kind, self.kinds[kind]) for kind in kinds)

    def add(self, value: Any) -> None:
        """Count the value of one more document."""
        kind = kind_of(value)
        if kind == "null":
            return
        self.present += 1
        self.kinds[kind] += 1
        if isinstance(key := read_id(value), ObjectId):
            self.id_count += 1
            if key in self.ids or len(self.ids) < _MAX_IDS:
                self.ids[key] += 1
        if kind == "string":
            self.looks.update(_looks_of(value.strip()))
        self._count(value, kind)

    def _count(self, value: Any, kind: str) -> None:
        if self.values is None:
            return
        short = kind in ("bool", "number") or (kind == "string" and 0 < len(value) <= _MAX_VALUE_LENGTH)
        if short:
            self.values[str(value).lower() if kind == "bool" else str(value)] += 1
        if not short or len(self.values) > _MAX_VALUES:
            self.values = None


@dataclass
class Profile:
    """All paths of the sampled documents of a collection, with the types and some values at each."""

    sampled: int = 0
    ids: int = 0
    """How many documents have an `_id` that is an id."""
    paths: dict[str, PathProfile] = field(default_factory=dict)

    def add(self, document: Mapping[str, Any]) -> None:
        """Count one more document."""
        self.sampled += 1
        self.ids += isinstance(read_id(document.get("_id")), ObjectId)
        for path, value in _flattened(document):
            if path not in self.paths and len(self.paths) >= _MAX_PATHS:
                continue
            self.paths.setdefault(path, PathProfile()).add(value)

    def at(self, path: str) -> PathProfile:
        """Return the profile of a path, which is empty if no document has it."""
        return self.paths.get(path) or PathProfile()


def _looks_of(text: str) -> Iterator[str]:
    if read_time(text) is not None:
        yield DATE_TEXT
        return
    if look := next((look for look, pattern in _LOOKS.items() if pattern.fullmatch(text)), None):
        yield look
    if _NAME.fullmatch(text) and text[0].isupper():
        yield "name"


def kind_of(value: Any) -> str:
    """Return the name of a value's BSON type; numbers are one."""
    return next((name for types, name in _KINDS if isinstance(value, types)), type(value).__name__.lower())


def _flattened(document: Mapping[str, Any], prefix: str = "", level: int = 1) -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if (name == "_id" and level == 1) or not is_part(name):
            continue
        yield f"{prefix}{name}", value
        if isinstance(value, Mapping) and level < _MAX_LEVELS:
            yield from _flattened(value, f"{prefix}{name}.", level + 1)
