"""Flower's search, with the organization, the trigger, the outcome and the reason of a task.

Flower indexes only the content of events, and has no hook for more. This module therefore replaces two of its classes
and its list of fields. A search by one of our fields reads the ledger first (`needs_labels`).
"""

from typing import Any, cast

from bson import ObjectId
from flower import events
from flower.utils import search

from worker.flower.labels import SEARCHABLE, Labels
from worker.flower.task_requests import known_requests

_base: Any = search  # it has no type information


def extend_search(labels: Labels) -> None:
    """Let Flower search by the labels. Call it before Flower loads its history."""
    _base.SEARCH_FIELDS |= {*SEARCHABLE, "reason"}
    _base.SearchDocument = _Document
    events.TaskSearchEngine = lambda: _SearchEngine(labels)


def needs_labels(query: str) -> bool:
    """Return whether a search uses our fields, as a term without a field does. Raises QuerySyntaxError."""
    return any(field is None or field in SEARCHABLE for field in _fields(_base.parse_query(query)))


def _fields(expression: Any) -> list[str | None]:
    if isinstance(expression, _base.Term):
        return [expression.field]
    return [field for child in getattr(expression, "children", ()) for field in _fields(child)]


class _Document(_base.SearchDocument):  # type: ignore[misc]
    """The searchable fields of a task, with the reason of its last failure and the labels of its requests."""

    __slots__ = ("keys", "reason")

    keys: list[ObjectId]
    reason: str

    @classmethod
    def from_task(cls, task: Any) -> "_Document":
        document = cast("_Document", super().from_task(task))
        document.keys = known_requests(task)
        document.reason = f"{task.exception or ''}\0{task.traceback or ''}".casefold()
        document.all_text += f"\0{document.reason}"
        return document


class _SearchEngine(_base.TaskSearchEngine):  # type: ignore[misc]
    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self._labels = labels

    def _term_ids(self, term: Any, candidates: set[str]) -> set[str]:
        if term.field in SEARCHABLE:
            return self._labelled(term.value, (term.field,), candidates)
        found: set[str] = super()._term_ids(term, candidates)
        return found if term.field else found | self._labelled(term.value, SEARCHABLE, candidates - found)

    def _labelled(self, value: str, fields: tuple[str, ...], candidates: set[str]) -> set[str]:
        wanted = value.casefold()
        return {
            task
            for task in candidates
            if any(wanted in self._labels.text(self.documents[task].keys, field) for field in fields)
        }
