"""The reference of `benchmarks.exports`: a plain PyMongo loop that writes the same lines, in the fastest plain way.

It reads in order, converts and writes, without a selection, a manifest, or anything durable.

    python -m benchmarks.export_loop URL DATABASE FORMAT FILE
"""

import json
import sys
from datetime import datetime
from typing import Any

import pymongo
from bson import ObjectId

from benchmarks.export_snapshots import ORGANIZATION


def main() -> None:
    url, database, form, path = sys.argv[1:]
    convert = _messages if form == "messages" else _whole
    with pymongo.MongoClient[Any](url) as client, open(path, "w", encoding="utf-8") as file:  # noqa: PTH123 - plain
        for document in client[database].trainingsnapshots.find({"organizationId": ORGANIZATION}).sort("_id", 1):
            row = convert(document)
            file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=_as_text) + "\n")


def _whole(document: dict[str, Any]) -> dict[str, Any]:
    return document


def _messages(document: dict[str, Any]) -> dict[str, Any]:
    """Consecutive messages of one side are one turn, and the last turn is the assistant's."""
    turns: list[dict[str, str]] = []
    for message in document["messages"]:
        if not message["content"].strip():
            continue
        role = "user" if message["sender"] == "contact" else "assistant"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += "\n" + message["content"]
        else:
            turns.append({"role": role, "content": message["content"]})
    while turns and turns[-1]["role"] == "user":
        turns.pop()
    return {"messages": turns}


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
