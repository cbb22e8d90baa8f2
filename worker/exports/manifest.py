"""The manifest: the description of an export, from which its files can be verified and rebuilt."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

from bson import ObjectId

from worker.clock import to_json
from worker.exports import croissant
from worker.exports.encoding import SUFFIXES
from worker.exports.spec import ExportSpec
from worker.exports.split import merge, most_frequent
from worker.exports.writing import Part
from worker.formats.base import Format
from worker.formats.dataset import Dataset, File

NAME = "manifest.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Layout:
    """Which staged file gets which final path, decided once all rows are written."""

    data: Sequence[tuple[str, Part]]
    ids: Sequence[tuple[str, Part]]


def plan_files(spec: ExportSpec, parts: Sequence[Part], shards: Mapping[str, Any]) -> Layout:
    """Name the files of an export. A split without rows has no data file."""
    suffix = SUFFIXES.get(spec.compress or "", "")
    data = []
    for part in parts:
        count = shards[part.split]["count"]
        if part.rows or count > 1:
            data.append((spec.training_format.path(part.split, part.shard, count) + suffix, part))
    return Layout(data, [(f"ids/{number:05}.tsv", part) for number, part in enumerate(parts)])


def dataset_of(export: ObjectId, spec: ExportSpec, moment: datetime, files: Iterable[tuple[str, File]]) -> Dataset:
    """Describe a finished export for the files that its format adds.

    `export`: its id. `moment`: when its snapshots were selected. `files`: its data files in order, each with its split.
    """
    by_split: dict[str, list[File]] = {}
    for split, file in files:
        by_split.setdefault(split, []).append(file)
    description = f"Conversations as training data, in the format {spec.format}, as of {to_json(moment)}."
    return Dataset(f"training-snapshots-{export}", description, moment, by_split, spec.options)


def extra_files(dataset: Dataset, form: Format) -> dict[str, bytes]:
    """Return the files that describe the data files, by path: those that the format adds, and the Croissant file."""
    return {**form.extra_files(dataset), croissant.NAME: croissant.croissant(dataset, form)}


def size_and_hash(content: bytes) -> dict[str, Any]:
    """Return what the manifest says of a file's content: `bytes` and `sha256`."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def manifest_of(
    export: ObjectId,
    organization: ObjectId,
    spec: ExportSpec,
    state: Mapping[str, Any],
    layout: Layout,
    extra: Mapping[str, bytes],
    key_fingerprint: str,
) -> dict[str, Any]:
    """Build the manifest. `extra`: the contents of the other files, by path."""
    counts = dict(state["counts"])
    moved = counts.pop("moved")
    splits: dict[str, dict[str, Any]] = {}
    skipped: dict[str, int] = {}
    quality: dict[str, int] = {}
    for _, part in layout.ids:
        merge(skipped, part.skipped)
        merge(quality, part.quality)
        mine = splits.setdefault(part.split, {"snapshots": 0, "rows": 0, "quality": {}})
        mine["snapshots"] += part.snapshots
        mine["rows"] += part.rows
        merge(mine["quality"], part.quality)
    for mine in splits.values():
        mine["quality"] = most_frequent(mine["quality"])
    split = {"shares": spec.split, "key": key_fingerprint, "stratify": spec.stratify, "moved": moved}
    return {
        "manifestVersion": VERSION,
        "exportId": str(export),
        "organizationId": str(organization),
        "createdBy": f"training-snapshots {version('training-snapshots')}",
        "format": {"name": spec.format, "version": spec.training_format.version},
        "spec": spec.stored(),
        "moment": to_json(state["moment"]),
        "counts": {
            **counts,
            "snapshots": sum(part.snapshots for _, part in layout.ids),
            "rows": sum(part.rows for _, part in layout.ids),
            "skipped": skipped,
            "quality": most_frequent(quality),
        },
        **_redaction(spec, layout),
        "split": split if spec.split else None,
        "splits": splits,
        "files": [
            *(_data_file(path, part) for path, part in layout.data),
            *(
                {"path": path, "kind": "ids", "split": part.split, "bytes": part.ids_bytes, "sha256": part.ids_sha256}
                for path, part in layout.ids
            ),
            *({"path": path, "kind": "extra", **size_and_hash(data)} for path, data in sorted(extra.items())),
        ],
    }


def _redaction(spec: ExportSpec, layout: Layout) -> dict[str, Any]:
    """Return the fields on what the export and earlier captures redacted. Empty if neither redacts anything."""
    counted: dict[str, dict[str, int]] = {"redacted": {}, "captured": {}, "policies": {}}
    for _, part in layout.ids:
        for name, counts in counted.items():
            merge(counts, getattr(part, name))
    found: dict[str, Any] = {}
    if spec.redact:
        # Another version of phonenumbers may find other numbers, so that a rebuild would differ.
        known = {"phonenumbers": version("phonenumbers"), "python-stdnum": version("python-stdnum")}
        kinds = {"kinds": spec.redact, "regions": spec.redact_regions}
        found["export"] = {**kinds, "counts": counted["redacted"], "versions": known}
    if counted["policies"]:
        found["capture"] = {"policies": counted["policies"], "counts": counted["captured"]}
    return {"redaction": found} if found else {}


def _data_file(path: str, part: Part) -> dict[str, Any]:
    sizes = {"rows": part.rows, "snapshots": part.snapshots, "bytes": part.bytes, "sha256": part.sha256}
    return {"path": path, "kind": "data", "split": part.split, **sizes}


def recorded_files(files: Sequence[Mapping[str, Any]], stale: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the list of files in the record of an export: `{name, bytes, sha256}`, and the manifest alone by its name.

    Args:
        files: The `files` of the manifest.
        stale: Its field `stale`. A data file in it is `{name, removed}`, where `removed` is `erased` or `expired`.
    """
    gone = (stale or {}).get("files", {})
    found: list[dict[str, Any]] = [
        {"name": each["path"], "removed": (stale or {})["reason"]}
        if each["path"] in gone
        else {"name": each["path"], "bytes": each["bytes"], "sha256": each["sha256"]}
        for each in files
    ]
    return [*found, {"name": NAME}]


def encode(manifest: Mapping[str, Any]) -> bytes:
    """Return the manifest's bytes."""
    return (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode()
