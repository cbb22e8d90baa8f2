"""Writes files of every format from conversations, as an export does, without servers."""

import gzip
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pyarrow as pa
import pyarrow.parquet as pq
from bson import ObjectId
from bson.codec_options import CodecOptions

from support.comparing import in_order, read
from worker.domain.assembly import Conversation, assemble, encode_messages
from worker.exports import croissant
from worker.formats import FORMATS, Dataset, File, Format, NotRepresentable, Options, Row, line

NOW = datetime(2026, 11, 28, tzinfo=UTC)
GZIPPED = ("jsonl", "messages", "nova")
"""Formats that are written compressed as well."""
QUALITIES = ("good", "bad", None, "excellent")
OPTIONS = Options(system="You answer customers of a shop.")


@dataclass
class Written:
    """What became of the snapshots in one format."""

    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


def snapshots(paths: Iterable[Path]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yields the snapshot of each conversation that has messages, and the messages of the file by their time.

    Every fourth has the same quality. Some were redacted.
    """
    organization = ObjectId()
    number = 0
    for source in read(paths):
        said = in_order(source["messages"])
        messages = encode_messages([{**each, "_id": ObjectId()} for each in said])
        if messages is None:
            continue
        key = ObjectId()
        entry: Any = {
            "_id": key,
            "organizationId": organization,
            "contactId": ObjectId(),
            "requestId": f"all:{key}",
            "trigger": "backfill",
            "tags": ["a"] if number % 3 else [],
            "quality": QUALITIES[number % 4],
            **({} if number % 5 else {"redaction": {"policy": 1, "counts": {"email": 2}}}),
        }
        made = assemble(entry, Conversation(source.get("contact") or {}, messages), NOW)
        number += 1
        document: dict[str, Any] = bson.decode(made.document.raw, CodecOptions(tz_aware=True))
        if number % 7 == 0:
            document["erasedMentions"] = {"at": NOW, "counts": {"phone": 1}}
        yield document, said


def write(folder: Path, documents: Iterable[dict[str, Any]], shards: int = 2) -> dict[str, Written]:
    """Writes a folder for each format: a tenth is for validation, one for test, the rest in so many shards."""
    written = {name: Written() for name in FORMATS}
    rows: dict[str, dict[str, list[list[Row]]]] = {
        name: {"train": [[] for _ in range(shards)], "validation": [[]], "test": [[]]} for name in FORMATS
    }
    for number, document in enumerate(documents):
        split = {8: "validation", 9: "test"}.get(number % 10, "train")
        for name, form in FORMATS.items():
            options = OPTIONS if "system" in form.takes else Options()
            try:
                made = form.rows(document, options)
            except NotRepresentable as skipped:
                written[name].skipped[skipped.reason] += 1
                continue
            files = rows[name][split]
            files[number % len(files)] += made
            written[name].rows += len(made)
    for name, form in FORMATS.items():
        _write(folder / name, form, rows[name])
    for name in GZIPPED:
        _write(folder / "gzip" / name, FORMATS[name], rows[name], ".gz")
    return written


def _write(folder: Path, form: Format, rows: dict[str, list[list[Row]]], ending: str = "") -> None:
    files: dict[str, list[File]] = {}
    for split, parts in rows.items():
        for index, part in enumerate(parts):
            path = form.path(split, index, len(parts)) + ending
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if form.suffix == "parquet":
                pq.write_table(pa.Table.from_pylist(part, schema=form.table().schema), target)
            else:
                data = b"".join(line(each) for each in part)
                target.write_bytes(gzip.compress(data) if ending else data)
            content = target.read_bytes()
            files.setdefault(split, []).append(File(path, len(part), len(content), hashlib.sha256(content).hexdigest()))
    options = OPTIONS if "system" in form.takes else Options()
    dataset = Dataset("shop", "Talks with customers.", NOW, files, options)
    extra = {**form.extra_files(dataset), croissant.NAME: croissant.croissant(dataset, form)}
    for path, content in extra.items():
        (folder / path).write_bytes(content)
