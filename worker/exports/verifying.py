"""Verifies the files of an export against its manifest, and rebuilds them from the database."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Annotated, Any, Literal

from bson import ObjectId
from bson.errors import InvalidId
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, ValidationError

from worker.domain.requests import Id
from worker.errors import InvalidRequest, PermanentError, Refused
from worker.exports.destination import Destination
from worker.exports.manifest import NAME, VERSION, dataset_of, encode, extra_files, size_and_hash
from worker.exports.selection import Selected, read_selected
from worker.exports.spec import ExportSpec, read_spec
from worker.exports.writing import DELETED, Part, PartWriter, fields_hash
from worker.formats.dataset import File
from worker.service import Service

_BLOCK = 1 << 20
_BATCH = 500


class ManifestUnreadable(PermanentError):
    """The manifest is missing, damaged, or has an unsupported version."""

    code = "manifest_unreadable"


class SourcesChanged(Refused):
    """Snapshots of the export were deleted or edited, so it cannot be rebuilt."""

    code = "sources_changed"


def _check_path(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in value:
        raise ValueError("should be a path inside the export")
    return value


_Path = Annotated[str, AfterValidator(_check_path)]


class _Record(BaseModel):
    path: _Path
    kind: Literal["data", "ids", "extra"]
    split: str = ""
    bytes: int
    sha256: str


class _Format(BaseModel):
    version: int


class _Stale(BaseModel):
    """Data files that were removed from an export, by path, with the paths of their lists of ids, and the reason."""

    reason: str = "erased"
    files: dict[_Path, _Path]


class _Manifest(BaseModel):
    """The fields that are read from a manifest. They are validated, because the file may come from anywhere."""

    manifest_version: Annotated[Literal[1], Field(alias="manifestVersion")]
    export_id: Annotated[Id, Field(alias="exportId")]
    moment: AwareDatetime
    organization_id: Annotated[Id, Field(alias="organizationId")]
    format: _Format
    spec: dict[str, Any]
    files: list[_Record]
    stale: _Stale | None = None


@dataclass
class Verification:
    """The result of a verification: faults by path, each as a sentence that continues the path."""

    checked: int
    faults: dict[str, str]


def read_manifest(destination: Destination) -> _Manifest:
    """Read the manifest of an export.

    Raises:
        ManifestUnreadable: It is missing, damaged, or of another version. The message says where and which.
        DestinationUnavailable: The bucket cannot be reached.
    """
    try:
        with destination.open(NAME) as file:
            manifest = json.load(file)
    except (ValueError, RecursionError, PermanentError) as error:
        raise ManifestUnreadable(f"{destination.where} has no readable {NAME}.") from error
    if not isinstance(manifest, dict) or manifest.get("manifestVersion") != VERSION:
        raise ManifestUnreadable(f"{NAME} in {destination.where} has an unsupported version; expected {VERSION}.")
    try:
        return _Manifest.model_validate(manifest)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ManifestUnreadable(f"{NAME} of {destination.where} is damaged: {place}: {first['msg']}.") from error


def verify(destination: Destination) -> Verification:
    """Compare all files of an export with its manifest: their presence, sizes and SHA-256.

    Args:
        destination: The folder or bucket with the files.

    Returns:
        How many files were checked, and the faults by path, including files that are not part of the export.

    Raises:
        ManifestUnreadable: The manifest is missing, damaged, or has an unsupported version.
        DestinationUnavailable: The bucket cannot be reached.

    Example:
        for path, fault in verify(open_folder(Path("training"), ObjectId())).faults.items():
            print(path, fault)  # train.jsonl has different content
    """
    manifest = read_manifest(destination)
    known = {each.path: each for each in manifest.files}
    found = {path: fault for path, record in known.items() if (fault := _fault(destination, record))}
    if stale := manifest.stale:
        because = "snapshots in it were too old" if stale.reason == "expired" else "a contact in it was erased"
        found |= dict.fromkeys(found.keys() & stale.files.keys(), f"was removed, because {because}: rebuild the export")
    extra = {path: "is not part of the export" for path in destination.paths() if path not in known and path != NAME}
    return Verification(len(known), found | extra)


def _fault(destination: Destination, record: _Record) -> str | None:
    try:
        with destination.open(record.path) as file:
            size, sha256 = _digest(file)
    except PermanentError as error:
        is_missing = isinstance(error.__cause__, FileNotFoundError | NotADirectoryError)
        return "is missing" if is_missing else "cannot be read"
    if size != record.bytes:
        return f"has {size:,} bytes instead of {record.bytes:,}"
    return None if sha256 == record.sha256 else "has different content"


def _digest(file: IO[bytes]) -> tuple[int, str]:
    size, digest = 0, hashlib.sha256()
    while block := file.read(_BLOCK):
        size += len(block)
        digest.update(block)
    return size, digest.hexdigest()


class Rebuild:
    """Rebuilds the data files of an export from the snapshots that its manifest names."""

    def __init__(self, service: Service, source: Destination) -> None:
        """Raises ManifestUnreadable."""
        self._service = service
        self._source = source
        self.manifest = read_manifest(source)
        try:
            self._spec: ExportSpec = read_spec(self.manifest.spec, service.settings)
        except InvalidRequest as error:
            reason = error.sentences(str)
            raise ManifestUnreadable(f"{NAME} of {source.where} is not valid for this version: {reason}") from error
        self._organization = self.manifest.organization_id
        self.gone: list[str] = []
        self.edited: list[str] = []

    def __call__(self, target: Destination) -> list[str]:
        """Write the data files again, from the snapshots that the manifest names.

        Args:
            target: Where to write them; a destination other than the source, or the same one.

        Returns:
            The paths of the data files that would differ from the manifest. If there are any, nothing is written.

        Raises:
            ManifestUnreadable: A list of ids is damaged, or the format has changed since the export.
            SourcesChanged: Snapshots were deleted or edited since. The message and `details` name them.
        """
        others = [each for each in self.manifest.files if each.kind != "data"]
        ids = [each for each in others if each.kind == "ids"]
        self._check(others, ids)
        by_content: dict[str, list[str]] = {}
        removed = {ids: data for data, ids in (self.manifest.stale.files if self.manifest.stale else {}).items()}
        for each in self.manifest.files:
            if each.kind == "data" and each.path not in removed.values():
                by_content.setdefault(each.sha256, []).append(each.path)
        writer = PartWriter(self._service, self._organization, self._spec, target)
        target.begin("rebuild")
        staged: dict[str, str] = {}
        remade: dict[str, Part] = {}
        for number, each in enumerate(ids):
            part = writer.write(each.split, number, "rebuild", self._selection(each.path))
            if path := removed.get(each.path):
                staged[path] = part.data
                remade[path] = part
            elif paths := by_content.get(part.sha256):
                staged[paths.pop(0)] = part.data
        if different := sorted(path for paths in by_content.values() for path in paths):
            target.remove()
            return different
        manifest, described = self._described(remade)
        with target.create("rebuild", "manifest") as file:
            file.write(manifest)
        for number, path in enumerate(each.path for each in others):
            content = described.get(path)
            with (
                io.BytesIO(content) if content is not None else self._source.open(path) as original,
                target.create("rebuild", f"copy-{number}") as copy,
            ):
                while block := original.read(_BLOCK):
                    copy.write(block)
            staged[path] = f"rebuild/copy-{number}"
        staged[NAME] = "rebuild/manifest"  # the last
        target.publish(staged, "rebuild")
        target.remove_staging()
        return []

    def _described(self, remade: Mapping[str, Part]) -> tuple[bytes, Mapping[str, bytes]]:
        """Return the manifest and, by path, the files that describe the data files, such as the dataset card.

        They state the rows, sizes and hashes of the data files, which readers compare. If no data file was removed,
        the manifest is the original one, and no others are returned, because the originals are right.
        """
        with self._source.open(NAME) as file:
            content = file.read()
        if not remade:
            return content, {}
        manifest = json.loads(content)
        del manifest["stale"]
        for each in manifest["files"]:
            if part := remade.get(each["path"]):
                each |= {"rows": part.rows, "snapshots": part.snapshots, "bytes": part.bytes, "sha256": part.sha256}
        data = [each for each in manifest["files"] if each["kind"] == "data"]
        files = ((each["split"], File(each["path"], each["rows"], each["bytes"], each["sha256"])) for each in data)
        dataset = dataset_of(self.manifest.export_id, self._spec, self.manifest.moment, files)
        described = extra_files(dataset, self._spec.training_format)
        for each in manifest["files"]:
            if (text := described.get(each["path"])) is not None:
                each.update(size_and_hash(text))
        return encode(manifest), described

    def _check(self, others: Sequence[_Record], ids: Sequence[_Record]) -> None:
        """Check that the export can be rebuilt from its lists of ids and the database, before anything is written."""
        if self._spec.training_format.version != self.manifest.format.version:
            raise ManifestUnreadable("The format has changed since the export, so the rows would differ. Export again.")
        for each in others:
            if fault := _fault(self._source, each):
                raise ManifestUnreadable(f"{each.path} of {self._source.where} {fault}.")
        for each in ids:
            for _ in self._selection(each.path):
                pass
        if self.gone or self.edited:
            gone, edited = len(self.gone), len(self.edited)
            message = f"Snapshots changed since the export: {gone} deleted or with other messages, {edited} edited."
            raise SourcesChanged(message, gone=self.gone, edited=self.edited)

    def _selection(self, path: str) -> Iterator[list[Selected]]:
        """Yield the current snapshots in a list of ids, and record those that were deleted or edited."""
        with self._source.open(path) as file:
            lines = csv.reader(io.TextIOWrapper(file, encoding="ascii", newline=""), delimiter="\t")
            batch: list[tuple[ObjectId, str, str, str]] = []
            try:
                for key, content_hash, edits, outcome in lines:
                    batch.append((ObjectId(key), content_hash, edits, outcome))
                    if len(batch) == _BATCH:
                        yield self._current(batch)
                        batch = []
            except (InvalidId, ValueError, csv.Error) as error:  # not made by us, since its hash is the manifest's
                raise ManifestUnreadable(f"{path} of {self._source.where} is not a list of ids.") from error
            yield self._current(batch)

    def _current(self, batch: list[tuple[ObjectId, str, str, str]]) -> list[Selected]:
        now = read_selected(self._service, self._organization, [key for key, *_ in batch])
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
