"""The second phase of an export: convert the snapshots of a shard and write them to a staged file."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

from bson import ObjectId

from worker.domain.assembly import hash_of_messages
from worker.domain.json_values import JsonEncoder
from worker.domain.ledger_entry import LedgerEntry
from worker.errors import TaskInterrupt
from worker.exports.destination import Destination
from worker.exports.encoding import Encoder, Hashed, encoder_of
from worker.exports.selection import NAIVE, Selected
from worker.exports.spec import ExportSpec
from worker.exports.split import merge, most_frequent, quality_of
from worker.formats.rows import NotRepresentable
from worker.log import get_logger
from worker.redaction.snapshot import redact_document
from worker.service import Service
from worker.source.agents import Name, read_agents
from worker.source.ids import read_id
from worker.stores.connections import Document, store_errors

log = get_logger(__name__)

_READ_BYTES, _READ_COUNT = 4_000_000, 400
"""Maximum bytes and snapshots in one batch that is read. Two such batches are in memory."""
_PEOPLE = ("_id", "organizationId", "contactId", "conversationId", "userId")
_sorted_json = JsonEncoder(sort_keys=True)
DELETED = "deleted"
"""The reason for a snapshot that was deleted after its selection."""


@dataclass
class Part:
    """A finished shard: its two staged files, and counts of their content."""

    split: str
    shard: int
    data: str
    ids: str
    rows: int = 0
    snapshots: int = 0
    bytes: int = 0
    sha256: str = ""
    ids_bytes: int = 0
    ids_sha256: str = ""
    skipped: dict[str, int] = field(default_factory=dict)
    quality: dict[str, int] = field(default_factory=dict)
    redacted: dict[str, int] = field(default_factory=dict)
    """How many places the export has redacted, by kind."""
    captured: dict[str, int] = field(default_factory=dict)
    """How many places were redacted at capture, by kind."""
    policies: dict[str, int] = field(default_factory=dict)
    """How many snapshots were redacted at capture, by the version of the policy."""


def fields_hash(selected: Selected) -> str:
    """Return a hash of a snapshot's editable fields, to detect edits."""
    return hashlib.sha256(_sorted_json(selected.fields).encode()).hexdigest()[:16]


def id_line(selected: Selected, outcome: object) -> bytes:
    """Return a snapshot's line in a list of ids: the id, hashes, and the number of rows or the skip reason."""
    return f"{selected.id}\t{selected.content_hash}\t{fields_hash(selected)}\t{outcome}\n".encode()


class PartWriter:
    """Writes the shards of one export: reads their snapshots, redacts and converts them, and stages the rows."""

    def __init__(self, service: Service, organization: ObjectId, spec: ExportSpec, destination: Destination) -> None:
        self._organization = organization
        self._spec = spec
        self._redactor = spec.redactor
        self._destination = destination
        self._connections = service.connections
        self._names_agents = "name" in spec.redact
        self._collection = service.snapshots.collection.with_options(NAIVE)
        # Fields are excluded, because naming those to include would also drop what makes a snapshot malformed.
        self._projection = dict.fromkeys(() if spec.redact else spec.training_format.unread, 0) or None

    def write(self, split: str, shard: int, place: str, selection: Iterable[list[Selected]]) -> Part:
        """Write a shard to two files in `place`: the rows, and the list of ids with hashes and results.

        Raises DestinationFailed, DestinationUnavailable, StoreUnavailable, StoreConflict.
        """
        names = f"{split}-{shard}", f"{split}-{shard}.ids"
        part = Part(split, shard, data=f"{place}/{names[0]}", ids=f"{place}/{names[1]}")
        skipped: Counter[str] = Counter()
        quality: Counter[str] = Counter()
        with self._destination.create(place, names[0]) as data, self._destination.create(place, names[1]) as ids:
            rows_out, ids_out = Hashed(data), Hashed(ids)
            encoder = encoder_of(self._spec.training_format, self._spec.options, rows_out, self._spec.compress)
            for batch, documents in self._read_ahead(_batches(selection)):
                agents = self._agents(documents.values())
                listed = []
                for selected in batch:
                    outcome = self._convert(encoder, selected, documents.pop(selected.id, None), agents, part, quality)
                    if isinstance(outcome, str):
                        skipped[outcome] += 1
                    else:
                        part.snapshots += 1
                        part.rows += outcome
                    listed.append(id_line(selected, outcome))
                ids_out.write(b"".join(listed))
            encoder.close()
        part.bytes, part.sha256 = rows_out.bytes, rows_out.sha256
        part.ids_bytes, part.ids_sha256 = ids_out.bytes, ids_out.sha256
        part.skipped, part.quality = dict(sorted(skipped.items())), most_frequent(quality)
        return part

    def _read_ahead(
        self, batches: Iterable[list[Selected]]
    ) -> Iterator[tuple[list[Selected], dict[ObjectId, Document]]]:
        """Yield each batch with its documents, while MongoDB already reads the next one."""
        ahead: tuple[list[Selected], Future[dict[ObjectId, Document]]] | None = None
        with ThreadPoolExecutor(1, "read-ahead") as reader:
            for batch in batches:
                began = batch, reader.submit(self._read, batch)
                if ahead:
                    yield ahead[0], ahead[1].result()
                ahead = began
            if ahead:
                yield ahead[0], ahead[1].result()

    def _read(self, batch: list[Selected]) -> dict[ObjectId, Document]:
        which: dict[str, Any] = {"_id": {"$in": [each.id for each in batch]}, "organizationId": self._organization}
        with store_errors():
            found = self._collection.find(which, self._projection, batch_size=_READ_COUNT)
            return {each["_id"]: each for each in found}

    def _agents(self, documents: Iterable[Document]) -> Mapping[Any, Sequence[Name]]:
        """Return the current names of the agents of each snapshot."""
        if not self._names_agents:
            return {}
        # Platforms may have stored anything in these fields.
        named = [{name: read_id(each[name]) for name in _PEOPLE if name in each} for each in documents]
        asked = [
            cast("LedgerEntry", {name: key for name, key in each.items() if isinstance(key, ObjectId)})
            for each in named
            if isinstance(each.get("contactId"), ObjectId)
        ]
        return read_agents(self._connections, asked) if asked else {}

    def _convert(
        self,
        encoder: Encoder,
        selected: Selected,
        document: Document | None,
        agents: Mapping[Any, Sequence[Name]],
        part: Part,
        quality: Counter[str],
    ) -> int | str:
        """Add the rows of a snapshot, its redactions to `part`, and its label, which may be redacted, to `quality`.

        Returns the number of rows, or the skip reason.
        """
        if document is None:
            return DELETED
        try:
            snapshot, redacted = self._redact(selected.apply(document), agents.get(selected.id, ()))
            rows = encoder.add(snapshot)
        except NotRepresentable as skipped:
            return skipped.reason
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
            if isinstance(error, TaskInterrupt):
                raise
            log.warning("snapshot_not_converted", snapshot=str(selected.id), reason=type(error).__name__)
            return "malformed"
        quality[quality_of(snapshot.get("quality"))] += 1
        if redacted:
            merge(part.redacted, redacted)
        # A platform may have stored anything under this name.
        captured = document.get("redaction")
        if isinstance(captured, dict) and isinstance(counts := captured.get("counts"), dict):
            merge(part.captured, {kind: count for kind, count in counts.items() if isinstance(count, int)})
            if isinstance(policy := captured.get("policy"), int):
                merge(part.policies, {str(policy): 1})
        return rows

    def _redact(
        self, snapshot: Mapping[str, Any], agents: Sequence[Name]
    ) -> tuple[Mapping[str, Any], Mapping[str, int]]:
        if self._redactor is None:
            return snapshot, {}
        redacted, counts = redact_document(self._redactor, snapshot, agents)
        if redacted.get("messages") is not snapshot.get("messages") and "contentHash" in snapshot:
            redacted = {**redacted, "contentHash": hash_of_messages(redacted["messages"])}
        return redacted, counts


def _batches(selection: Iterable[list[Selected]]) -> Iterator[list[Selected]]:
    """Yield lists of as many snapshots as may be in memory at once."""
    batch: list[Selected] = []
    size = 0
    for entries in selection:
        for each in entries:
            if batch and (size + each.size > _READ_BYTES or len(batch) == _READ_COUNT):
                yield batch
                batch, size = [], 0
            batch.append(each)
            size += each.size
    if batch:
        yield batch
