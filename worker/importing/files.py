"""Imports conversations from files into the platform's collections.

A batch of conversations is stored in one transaction, so a conversation is stored completely or not at all, even if
the import is killed or several imports run at once. Importing the same file again stores nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bson import ObjectId

from worker.importing.json_lines import UnreadableFile, read_lines, size_of
from worker.importing.neutral_form import MAX_LINE_BYTES, InvalidLine, parse
from worker.importing.source_documents import SourceDocuments
from worker.importing.store import ImportStore
from worker.stores.connections import Connections

BATCH_CONVERSATIONS = 500
BATCH_BYTES = 2_000_000
MAX_REFUSALS = 10_000
"""Maximum number of refused lines that a report lists."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that was not stored. The reason names the field and the fault, never the line's text."""

    file: str
    line: int
    reason: str


@dataclass(slots=True)
class Report:
    """Numbers of lines, with `read` = `stored` + `already_there` + refused, and of new contacts and messages."""

    organization_id: ObjectId
    read: int = 0
    stored: int = 0
    already_there: int = 0
    refusals: int = 0
    refused: list[Refusal] = field(default_factory=list)
    """The first refused lines: a file of another kind may have millions."""
    contacts: int = 0
    messages: int = 0

    def refuse(self, path: Path, line: int, reason: str) -> None:
        """Count a refused line, and keep its reason if it is one of the first."""
        self.refusals += 1
        if len(self.refused) < MAX_REFUSALS:
            self.refused.append(Refusal(str(path), line, reason))

    def to_json(self) -> dict[str, Any]:
        """Return the report in camelCase, with ids as hex digits."""
        return {
            "organizationId": str(self.organization_id),
            "read": self.read,
            "stored": self.stored,
            "alreadyThere": self.already_there,
            "refused": self.refusals,
            "refusals": [{"file": line.file, "line": line.line, "reason": line.reason} for line in self.refused],
            "contacts": self.contacts,
            "conversations": self.stored,
            "messages": self.messages,
        }


OnProgress = Callable[[int, int, Report], None]
"""Called with the number of bytes read, the total size of the files, and the report so far."""

_NumberedDocuments = tuple[int, SourceDocuments]
"""The number of a line, and its documents."""


def import_files(
    paths: Sequence[Path],
    organization_id: ObjectId,
    connections: Connections,
    on_progress: OnProgress = lambda done, total, report: None,
) -> Report:
    """Read JSON Lines files in the neutral form, gzipped or not, and store the conversations that are new.

    A faulty line is refused without affecting the others. A damaged file is read up to the damage, which counts as a
    refused line.

    Args:
        paths: The files, which are read in this order.
        organization_id: The organization that gets the conversations.
        connections: The connections of this process.
        on_progress: Called now and then with the bytes read, the total size and the report so far.

    Raises:
        StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; the import can be run again.
    """
    report = Report(organization_id)
    store = ImportStore(connections, organization_id)
    store.prepare()
    now = connections.clock.now()
    sizes = [size_of(path) for path in paths]
    for index, path in enumerate(paths):
        before = sum(sizes[:index])
        for position, batch in _batches(path, organization_id, now, report):
            _store(store, path, batch, report)
            on_progress(before + position, sum(sizes), report)
        on_progress(before + sizes[index], sum(sizes), report)
    order = {str(path): index for index, path in enumerate(paths)}
    report.refused.sort(key=lambda line: (order[line.file], line.line))
    return report


def _batches(
    path: Path, organization_id: ObjectId, now: datetime, report: Report
) -> Iterator[tuple[int, list[_NumberedDocuments]]]:
    batch: list[_NumberedDocuments] = []
    size = position = 0
    for number, content, position in _lines(path, report):
        report.read += 1
        try:
            documents = SourceDocuments(organization_id, parse(content), now)
            documents.check_size(at_most=len(content))
        except InvalidLine as error:
            report.refuse(path, number, error.message)
            continue
        batch.append((number, documents))
        size += len(content)
        if len(batch) >= BATCH_CONVERSATIONS or size >= BATCH_BYTES:
            yield position, batch
            batch, size = [], 0
    if batch:
        yield position, batch


def _lines(path: Path, report: Report) -> Iterable[tuple[int, bytes, int]]:
    try:
        yield from read_lines(path, MAX_LINE_BYTES)
    except UnreadableFile as error:
        report.read += 1
        report.refuse(path, error.line, error.message)


def _store(store: ImportStore, path: Path, batch: list[_NumberedDocuments], report: Report) -> None:
    outcome = store.store([documents for _, documents in batch])
    report.stored += outcome.stored
    report.already_there += outcome.already_there
    report.contacts += outcome.contacts
    report.messages += outcome.messages
    for place, reason in outcome.rejected.items():
        report.refuse(path, batch[place][0], reason)
