"""The description of an export in the vocabulary Croissant 1.0, which dataset search engines and loaders read.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

import json
from collections.abc import Mapping
from typing import Any

from worker.clock import to_json
from worker.formats.base import Format
from worker.formats.dataset import Dataset

NAME = "croissant.json"
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_ENCODINGS = {"jsonl": "application/jsonlines", "parquet": "application/x-parquet"}
_TYPES = {"string": "sc:Text", "int64": "sc:Integer", "bool": "sc:Boolean", "timestamp": "sc:Date"}
"""Croissant's type for each type of column; `sc:Date` is a date with or without a time."""
_READABLE = (".jsonl", ".jsonl.gz", ".parquet")
"""Endings of files that `mlcroissant` reads."""


def croissant(dataset: Dataset, form: Format) -> bytes:
    """Return the description of the files, and of the records of those that `mlcroissant` can read."""
    files: list[dict[str, Any]] = []
    records: list[dict[str, Any]] = []
    for split, of_split in dataset.files.items():
        for file in of_split:
            files.append(
                {
                    "@type": "cr:FileObject",
                    "@id": file.path,
                    "name": file.path,
                    "contentUrl": file.path,
                    "contentSize": f"{file.bytes} B",
                    "encodingFormat": _ENCODINGS[form.suffix],
                    "sha256": file.sha256,
                }
            )
            if file.path.endswith(_READABLE):
                records.append(_records(f"{split}-{len(records)}", file.path, form.certain_columns(dataset.options)))
    whole = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": dataset.name,
        "description": dataset.description,
        "url": f"urn:training-snapshots:{dataset.name}",
        "version": "1.0.0",
        "datePublished": to_json(dataset.moment),
        "distribution": files,
        "recordSet": records,
    }
    return (json.dumps(whole, indent=2) + "\n").encode()


def _records(name: str, path: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    fields = [_field(f"{name}/{column}", path, column, kind) for column, kind in columns.items()]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": fields}


def _field(key: str, path: str, column: str, kind: Any) -> dict[str, Any]:
    """Return the description of a column in the notation of `worker.formats.columns`."""
    item, prefix = (kind[0], "$[*]") if isinstance(kind, list) else (kind, "$")
    field: dict[str, Any] = {"@type": "cr:Field", "@id": key, "name": key}
    if isinstance(kind, list):
        field["repeated"] = True
    source: dict[str, Any] = {"fileObject": {"@id": path}, "extract": {"column": column}}
    if not isinstance(item, Mapping):
        return {**field, "dataType": _TYPES[item], "source": source}
    field["subField"] = [
        {
            "@type": "cr:Field",
            "@id": f"{key}/{name}",
            "name": f"{key}/{name}",
            "dataType": _TYPES[leaf],
            "source": {**source, "transform": {"jsonPath": f"{prefix}.{place}"}},
        }
        for name, (place, leaf) in {name: _leaf(name, each) for name, each in item.items()}.items()
    ]
    return field


def _leaf(name: str, kind: Any) -> tuple[str, str]:
    """Return the path and type of a field of an object. For a list of objects, take the only field of its items.

    The rows of `vertex` and `nova` have such lists, always of one text.
    """
    item = kind[0] if isinstance(kind, list) else kind
    if not isinstance(item, Mapping):
        return name, item
    ((only, leaf),) = item.items()
    return f"{name}[*].{only}", leaf
