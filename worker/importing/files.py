"""Import of conversations from files into the platform's collections.

A batch of conversations is stored in one transaction: a conversation is there whole or not at all, whenever
the import is killed and however many imports run at once. The same file again stores nothing.
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


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that was not stored; the reason names the field and the fault, and shows no text of the line."""

    file: str
    line: int
    reason: str


@dataclass(slots=True)
class Report:
    """`read` = `stored` + `already_there` + refused, in lines; `contacts` and `messages` count what was made."""

    organization_id: ObjectId
    read: int = 0
    stored: int = 0
    already_there: int = 0
    refused: list[Refusal] = field(default_factory=list)
    contacts: int = 0
    messages: int = 0

    def to_json(self) -> dict[str, Any]:
        """camelCase, ids as hex digits."""
        return {
            "organizationId": str(self.organization_id),
            "read": self.read,
            "stored": self.stored,
            "alreadyThere": self.already_there,
            "refused": len(self.refused),
            "refusals": [{"file": each.file, "line": each.line, "reason": each.reason} for each in self.refused],
            "contacts": self.contacts,
            "conversations": self.stored,
            "messages": self.messages,
        }


OnProgress = Callable[[int, int, Report], None]
"""Called with the bytes read of the files, their size together, and the report so far."""

_Entry = tuple[int, SourceDocuments]


def import_files(
    paths: Sequence[Path],
    organization_id: ObjectId,
    connections: Connections,
    on_progress: OnProgress = lambda done, total, report: None,
) -> Report:
    """Read the files (JSON Lines in the neutral form, gzipped or not) and store what is not there yet.

    A faulty line is refused alone, in `refused`; a file that breaks off is read up to there, and the break is
    a refusal. Raises StoreUnavailable or StoreConflict, after which the import can be run again.
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
    report.refused.sort(key=lambda each: (order[each.file], each.line))
    return report


def _batches(
    path: Path, organization_id: ObjectId, now: datetime, report: Report
) -> Iterator[tuple[int, list[_Entry]]]:
    batch: list[_Entry] = []
    size = position = 0
    for number, content, position in _lines(path, report):
        report.read += 1
        try:
            documents = SourceDocuments(organization_id, parse(content), now)
            documents.check_size(at_most=len(content))
        except InvalidLine as error:
            report.refused.append(Refusal(str(path), number, error.message))
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
        report.refused.append(Refusal(str(path), error.line, error.message))


def _store(store: ImportStore, path: Path, batch: list[_Entry], report: Report) -> None:
    outcome = store.store([documents for _, documents in batch])
    report.stored += outcome.stored
    report.already_there += outcome.already_there
    report.contacts += outcome.contacts
    report.messages += outcome.messages
    report.refused += [Refusal(str(path), batch[place][0], reason) for place, reason in outcome.rejected.items()]
