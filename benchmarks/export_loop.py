"""The reference of `benchmarks.exports`: a plain PyMongo loop that writes the same rows, in the fastest plain way.

It reads in order, converts and writes, without a selection, a manifest, or anything durable.

    python -m benchmarks.export_loop URL DATABASE FORMAT FILE [LIMIT]
"""

import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pymongo
from bson import ObjectId

from benchmarks.export_snapshots import ORGANIZATION

Document = dict[str, Any]


def main() -> None:
    url, database, form, path, *limit = sys.argv[1:]
    with pymongo.MongoClient[Any](url) as client:
        documents = client[database].trainingsnapshots.find({"organizationId": ORGANIZATION}).sort("_id", 1)
        if limit:
            documents = documents.limit(int(limit[0]))
        if form == "parquet":
            _write_table(documents, path)
        else:
            _write_lines(documents, CONVERT[form], path)


def _write_lines(documents: Any, convert: Callable[[Document], Document | None], path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - plain
        for document in documents:
            if (row := convert(document)) is not None:
                file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=_as_text) + "\n")


def _write_table(documents: Any, path: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    from worker.formats import FORMATS

    schema = FORMATS["parquet"].table().schema
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in _thousands(map(_typed, documents)):
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _thousands(rows: Iterator[Document]) -> Iterator[list[Document]]:
    some: list[Document] = []
    for row in rows:
        some.append(row)
        if len(some) == 1000:
            yield some
            some = []
    if some:
        yield some


# --- one function for each format: from a snapshot to its row ------------------------------------------------------


def _typed(document: Document) -> Document:
    """The columns of the table; ids are text."""
    row: Document = {name: str(value) if isinstance(value, ObjectId) else value for name, value in document.items()}
    for message in row["messages"]:
        message["role"] = _role(message)
    return row


def _whole(document: Document) -> Document:
    return document


def _messages(document: Document) -> Document:
    return {"messages": _turns(document)}


def _kto(document: Document) -> Document | None:
    if document["quality"] not in {"good", "bad"}:
        return None
    turns = _turns(document)
    return {"prompt": turns[:-1], "completion": turns[-1:], "label": document["quality"] == "good"}


def _sharegpt(document: Document) -> Document:
    sides = {"user": "human", "assistant": "gpt"}
    turns = [{"from": sides[each["role"]], "value": each["content"]} for each in _turns(document)]
    return {"conversations": turns, "system": ""}


def _vertex(document: Document) -> Document:
    roles = {"user": "user", "assistant": "model"}
    return {
        "contents": [{"role": roles[each["role"]], "parts": [{"text": each["content"]}]} for each in _turns(document)]
    }


def _nova(document: Document) -> Document | None:
    reserved = ("User:", "Bot:", "Assistant:", "System:", "<image>", "<video>", "[EOS]")
    turns = _turns(document)
    if any(word in each["content"] for each in turns for word in reserved):
        return None
    messages = [{"role": each["role"], "content": [{"text": each["content"]}]} for each in turns]
    return {"schemaVersion": "bedrock-conversation-2024", "messages": messages}


def _eval(document: Document) -> Document:
    *before, answer = _turns(document)
    return {
        "id": document["_id"],
        "input": before,
        "target": answer["content"],
        "question": before[-1]["content"],
        "metadata": {name: document[name] for name in ("quality", "category", "tags", "contentHash")},
        "vars": {"messages": json.dumps(before, ensure_ascii=False), "expected": answer["content"]},
    }


CONVERT: dict[str, Callable[[Document], Document | None]] = {
    "jsonl": _whole,
    "messages": _messages,
    "kto": _kto,
    "sharegpt": _sharegpt,
    "mistral": _messages,
    "vertex": _vertex,
    "nova": _nova,
    "eval": _eval,
}


def _turns(document: Document) -> list[dict[str, str]]:
    """Consecutive messages of one side are one turn, and the last turn is the assistant's."""
    turns: list[dict[str, str]] = []
    for message in document["messages"]:
        if not message["content"].strip():
            continue
        role = _role(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += "\n" + message["content"]
        else:
            turns.append({"role": role, "content": message["content"]})
    while turns and turns[-1]["role"] == "user":
        turns.pop()
    return turns


def _role(message: Document) -> str:
    return "user" if message["sender"] == "contact" else "assistant"


def _as_text(value: Any) -> str:
    match value:
        case ObjectId():
            return str(value)
        case datetime():
            return value.isoformat(timespec="milliseconds") + "Z"
        case _:
            raise TypeError(type(value))


if __name__ == "__main__":
    main()
