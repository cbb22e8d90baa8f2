"""Checks the files of an export against its manifest, and makes them again from the database."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from bson import ObjectId

from worker.errors import PermanentError, Refused
from worker.exports.destination import Destination
from worker.exports.manifest import NAME, VERSION
from worker.exports.selection import EDITABLE, Selected
from worker.exports.spec import ExportSpec, read_spec
from worker.exports.writing import DELETED, PartWriter, fields_hash
from worker.service import Service
from worker.stores.connections import store_errors

_BLOCK = 1 << 20
_BATCH = 500


class ManifestUnreadable(PermanentError):
    """The manifest is missing, or is not one of this version."""

    code = "manifest_unreadable"


class SourcesChanged(Refused):
    """Snapshots of the export are gone or were edited, so that it cannot be made again."""

    code = "sources_changed"


@dataclass
class Verification:
    """What is wrong with the files of an export, as sentences by path."""

    checked: int = 0
    faults: dict[str, str] = field(default_factory=dict)


def read_manifest(destination: Destination) -> dict[str, Any]:
    """Read the manifest. Raises ManifestUnreadable."""
    try:
        with destination.open(NAME) as file:
            manifest = json.load(file)
    except (ValueError, PermanentError) as error:
        raise ManifestUnreadable(f"{destination.where} has no readable {NAME}.") from error
    if not isinstance(manifest, dict) or manifest.get("manifestVersion") != VERSION:
        raise ManifestUnreadable(f"{NAME} of {destination.where} is not of version {VERSION}.")
    return manifest


def verify(destination: Destination) -> Verification:
    """Compare all files with the manifest. Raises ManifestUnreadable, DestinationUnavailable."""
    manifest = read_manifest(destination)
    result = Verification()
    known = {each["path"]: each for each in manifest["files"]}
    for path, expected in known.items():
        result.checked += 1
        try:
            with destination.open(path) as file:
                size, sha256 = _digest(file)
        except PermanentError:
            result.faults[path] = "is missing"
            continue
        if size != expected["bytes"]:
            result.faults[path] = f"has {size:,} bytes instead of {expected['bytes']:,}"
        elif sha256 != expected["sha256"]:
            result.faults[path] = "has another content"
    for path in destination.paths():
        if path not in known and path != NAME:
            result.faults[path] = "is not part of the export"
    return result


def _digest(file: IO[bytes]) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    while block := file.read(_BLOCK):
        size += len(block)
        digest.update(block)
    return size, digest.hexdigest()


class Rebuild:
    """Makes the data files of an export again, from the snapshots that its manifest names."""

    def __init__(self, service: Service, source: Destination) -> None:
        """Raises ManifestUnreadable."""
        self._service = service
        self._source = source
        self.manifest = read_manifest(source)
        self._spec: ExportSpec = read_spec(self.manifest["spec"], service.settings)
        self._organization = ObjectId(self.manifest["organizationId"])
        self.gone: list[str] = []
        self.edited: list[str] = []

    def __call__(self, target: Destination) -> list[str]:
        """Write the data files to `target`; return the paths of those that differ from the manifest.

        Raises SourcesChanged, which names the snapshots that are gone or were edited.
        """
        if self._spec.training_format.version != self.manifest["format"]["version"]:
            raise ManifestUnreadable("The format has another version now, which makes other rows.")
        ids = [each for each in self.manifest["files"] if each["kind"] == "ids"]
        for each in ids:
            for _ in self._selection(each["path"]):
                pass
        if self.gone or self.edited:
            message = f"{len(self.gone)} snapshots are gone and {len(self.edited)} were edited since the export."
            raise SourcesChanged(message, gone=self.gone, edited=self.edited)
        data = [each for each in self.manifest["files"] if each["kind"] == "data"]
        by_content = {each["sha256"]: each for each in data}
        writer = PartWriter(self._service, self._organization, self._spec, target)
        target.begin("rebuild")
        staged: dict[str, str] = {}
        for number, each in enumerate(ids):
            part = writer.write(each["split"], number, "rebuild", self._selection(each["path"]))
            if found := by_content.pop(part.sha256, None):
                staged[found["path"]] = part.data
        different = sorted(each["path"] for each in by_content.values())
        if different:
            target.remove()
            return different
        others = [*(each["path"] for each in self.manifest["files"] if each["kind"] != "data"), NAME]
        for number, path in enumerate(others):
            with self._source.open(path) as original, target.create("rebuild", f"copy-{number}") as copy:
                while block := original.read(_BLOCK):
                    copy.write(block)
            staged[path] = f"rebuild/copy-{number}"
        target.publish(staged, "rebuild")
        target.remove_staging()
        return []

    def _selection(self, path: str) -> Iterator[list[Selected]]:
        """Yield the snapshots of one file of ids as they are now, and note those that are gone or were edited."""
        with self._source.open(path) as file:
            lines = csv.reader(io.TextIOWrapper(file, encoding="ascii", newline=""), delimiter="\t")
            batch: list[tuple[ObjectId, str, str, str]] = []
            for key, content_hash, edits, outcome in lines:
                batch.append((ObjectId(key), content_hash, edits, outcome))
                if len(batch) == _BATCH:
                    yield self._current(batch)
                    batch = []
            yield self._current(batch)

    def _current(self, batch: list[tuple[ObjectId, str, str, str]]) -> list[Selected]:
        now = self._read([key for key, *_ in batch])
        entries = []
        for key, content_hash, edits, outcome in batch:
            current = now.get(key)
            if outcome == DELETED:
                continue
            if current is None or current.content_hash != content_hash:
                self.gone.append(str(key))
            elif fields_hash(current) != edits:
                self.edited.append(str(key))
            else:
                entries.append(current)
        return entries

    def _read(self, ids: list[ObjectId]) -> Mapping[ObjectId, Selected]:
        which: dict[str, Any] = {"_id": {"$in": ids}, "organizationId": self._organization}
        projection = {**dict.fromkeys(("contentHash", *EDITABLE), 1), "size": {"$bsonSize": "$$ROOT"}}
        with store_errors():
            found = self._service.snapshots.collection.find(which, projection)
            return {each["_id"]: Selected.of(each) for each in found}
