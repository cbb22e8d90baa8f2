"""Hooks for Schemathesis: existing ids, and a check that no answer shows data of another organization.

https://schemathesis.readthedocs.io/en/stable/guides/extending/
"""

import os
import re
from typing import Any

import schemathesis

CONTACTS = os.environ["SCHEMA_CONTACTS"].split(",")
SNAPSHOTS = os.environ["SCHEMA_SNAPSHOTS"].split(",")
FOREIGN = [each for each in os.environ.get("SCHEMA_FOREIGN", "").split(",") if each]
CONTACT = "/api/training/contacts/{id}"
_SPLIT = re.compile(r"(0|[1-9]\d?|100)(/(0|[1-9]\d?|100)){2}", re.ASCII)
_ID = re.compile(r"[0-9a-fA-F]{24}", re.ASCII)


def _existing(value: Any, ids: list[str]) -> Any:
    """Replace half of the ids with existing ones."""
    if isinstance(value, str) and _ID.fullmatch(value) and int(value[-1], 16) % 2:
        return ids[int(value[-2], 16) % len(ids)]
    return value


@schemathesis.hook
def map_body(_: Any, body: Any) -> Any:
    if isinstance(body, dict) and "format" in body:
        return _export(body)
    if isinstance(body, dict) and "contactId" in body:
        return {**body, "contactId": _existing(body["contactId"], CONTACTS)}
    return body


def _export(body: dict[str, Any]) -> dict[str, Any]:
    """Make an export valid by the rules that a schema cannot express, but leave what its schema refuses."""
    left = dict(body)
    if isinstance(left.get("split"), str) and _SPLIT.fullmatch(left["split"]):
        left["split"] = "90/5/5"
    if left.get("stratify") == "quality" and left.get("split") is None:
        del left["stratify"]
    for name, kind in (("system", str), ("weightBad", bool)):
        if isinstance(left.get(name), kind) and left["format"] != "messages":
            del left[name]
    if isinstance(left.get("system"), str) and left["system"]:
        left["system"] = "You help customers."
    if left.get("compress") in ("gzip", "zstd") and left["format"] == "parquet":
        del left["compress"]
    if isinstance(regions := left.get("redactRegions"), list) and all(map(_is_region, regions)):
        left["redactRegions"] = ["DE"] * len(regions)
        if not left.get("redact"):
            del left["redactRegions"]
    return left


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """Change what the other hooks do not see: the cases of coverage, and ids from earlier answers."""
    for values in (case.path_parameters, case.query, case.body):
        if isinstance(values, dict):
            for name, value in values.items():
                if isinstance(value, dict) and "_id" in value:  # a link that was inferred: a whole contact as an id
                    values[name] = value["_id"]
    if case.operation.path == CONTACT and case.path_parameters.get("id") in CONTACTS:
        case.path_parameters["id"] = "f" * 24  # erase no contact that other requests need
    if isinstance(case.body, dict) and "format" in case.body:
        case.body = _export(case.body)
    for name, value in (case.query or {}).items():
        if value == {}:  # sent as an empty value, which counts as omitted
            case.query[name] = "{}"


def _is_region(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[A-Z]{2}", value) is not None


@schemathesis.hook
def map_path_parameters(_: Any, path_parameters: Any) -> Any:
    if path_parameters and "id" in path_parameters:
        return {**path_parameters, "id": _existing(path_parameters["id"], SNAPSHOTS)}
    return path_parameters


@schemathesis.check
def nothing_of_another_organization(_: Any, response: Any, __: Any) -> None:
    for each in FOREIGN:
        assert each not in response.text, "an answer shows data of another organization"
