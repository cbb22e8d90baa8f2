"""Messages that a producer, or an attacker, could push into Celery's lists: valid ones, and many that are not."""

import base64
import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

MISSING = object()
"""As a value: the key is left out."""
ODD_VALUES: tuple[Any, ...] = (None, True, -1, 5, 1.5, 10**400, "", "x", "ä" * 300, [], [1], [[1]], {}, {"a": [1]})


def body_of(args: Any, kwargs: Any = None, embed: Any = None) -> str:
    """A message body of Celery's protocol 2."""
    return text_body(json.dumps([args, kwargs or {}, embed or {}]))


def text_body(text: str | bytes) -> str:
    """Any text, encoded as a body."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def deep(levels: int) -> str:
    """JSON text of nested arrays."""
    return "[" * levels + "]" * levels


def envelope(
    task: Any = "snapshots.request",
    args: Any = (),
    *,
    queue: str = "snapshots",
    headers: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    **changed: Any,
) -> dict[str, Any]:
    """A message as Celery publishes it, with changed headers, properties and top-level fields."""
    key = str(uuid4())
    base_headers = {
        "lang": "py",
        "task": task,
        "id": key,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": key,
        "parent_id": None,
        "argsrepr": "(...)",
        "kwargsrepr": "{}",
        "origin": "gen1@host",
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    base_properties = {
        "correlation_id": key,
        "reply_to": str(uuid4()),
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid4()),
    }
    made = {
        "body": body_of(list(args)),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": _changed(base_headers, headers or {}),
        "properties": _changed(base_properties, properties or {}),
    }
    return _changed(made, changed)


def _changed(fields: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    changes = {
        name.replace("_", "-") if name.startswith("content_") else name: value for name, value in changes.items()
    }
    return {name: value for name, value in {**fields, **changes}.items() if value is not MISSING}


def raw(message: Any) -> bytes:
    """The bytes that stand in the list."""
    return message if isinstance(message, bytes) else json.dumps(message).encode()


BODIES: dict[str, Any] = {
    "object": text_body("{}"),
    "null": text_body("null"),
    "number": text_body("5"),
    "string": text_body('"x"'),
    "empty array": text_body("[]"),
    "two elements": text_body("[[],{}]"),
    "four elements": text_body("[[],{},{},{}]"),
    "three nulls": text_body("[null,null,null]"),
    "args a string": text_body('["x",{},{}]'),
    "args an object": text_body("[{},{},{}]"),
    "kwargs an array": text_body("[[],[1],{}]"),
    "embed an array": text_body("[[],{},[1]]"),
    "embed a number": text_body("[[],{},5]"),
    "callbacks of a number": text_body('[[],{},{"callbacks":[5]}]'),
    "chain of strings": text_body('[[],{},{"chain":["x"]}]'),
    "chord": text_body('[[],{},{"chord":{"task":"x"}}]'),
    "empty": "",
    "not base64": "!!!!",
    "base64 without padding": "abc",
    "not JSON": text_body("not JSON"),
    "not UTF-8": text_body(b"\xff\xfe[[],{},{}]"),
    "null itself": None,
    "a number itself": 5,
    "an array itself": [[], {}, {}],
    "an object itself": {"task": "snapshots.sweep"},
    "left out": MISSING,
    "unknown type marker": text_body('[[{"__type__":"x","__value__":1}],{},{}]'),
    "broken date marker": text_body('[[{"__type__":"datetime","__value__":5}],{},{}]'),
    "type marker an array": text_body('[[{"__type__":[],"__value__":5}],{},{}]'),
    **{
        f"tags nested {levels}": text_body(f'[[{{"tags":{deep(levels)}}}],{{}},{{}}]')
        for levels in (100, 250, 500, 700, 950, 100_000)
    },
    "nested objects": text_body("[[" + '{"a":' * 600 + "1" + "}" * 600 + "],{},{}]"),
    "nested kwargs": text_body(f'[[],{{"a":{deep(600)}}},{{}}]'),
}
HEADERS: dict[str, dict[str, Any]] = {
    "timelimit of one": {"timelimit": [1]},
    "timelimit of texts": {"timelimit": ["a", "b"]},
    "timelimit a number": {"timelimit": 5},
    "timelimit an object": {"timelimit": {"a": 1, "b": 2}},
    "timelimit negative": {"timelimit": [-1, -1]},
    "timelimit tiny": {"timelimit": [0.001, 0.001]},
    "timelimit infinite": {"timelimit": [float("inf"), float("nan")]},
    "id an object": {"id": {"a": 1}},
    "id an array": {"id": [1]},
    "id null": {"id": None},
    "id a number": {"id": 5},
    "id empty": {"id": ""},
    "id long": {"id": "x" * 100_000},
    "id left out": {"id": MISSING},
    "task an array": {"task": ["snapshots.request"]},
    "task an object": {"task": {}},
    "task null": {"task": None},
    "task left out": {"task": MISSING},
    "task unknown": {"task": "snapshots.nothing"},
    "task unknown and long": {"task": "x" * 100_000},
    "task of Celery": {"task": "celery.chord_unlock"},
    "task celery.starmap": {"task": "celery.starmap"},
    "task of a carrier": {"task": "snapshots.rejected"},
    "carrier with odd errors": {"task": "snapshots.rejected", "errors": 5, "bytes": 1},
    "carrier with a huge size": {
        "task": "snapshots.rejected",
        "errors": [{"field": "a", "message": "b"}],
        "bytes": 10**4000,
    },
    "stamped_headers a number": {"stamped_headers": 5},
    "stamped_headers of arrays": {"stamped_headers": [[1]]},
    "stamps an array": {"stamps": [1], "stamped_headers": ["a"]},
    "eta empty": {"eta": ""},
    "eta a number": {"eta": 5},
    "eta no date": {"eta": "tomorrow"},
    "eta an object": {"eta": {}},
    "eta in year 9999": {"eta": "9999-12-31T23:59:59"},
    "eta in year 1": {"eta": "0001-01-01T00:00:00+14:00"},
    "eta in an hour": {"eta": "2096-01-01T00:00:00+00:00"},
    "expires empty": {"expires": ""},
    "expires a number": {"expires": 5},
    "expires no date": {"expires": "x"},
    "expires an array": {"expires": [1]},
    "expires in year 1": {"expires": "0001-01-01T00:00:00+14:00"},
    "retries a text": {"retries": "x"},
    "retries an array": {"retries": [1]},
    "retries negative": {"retries": -5},
    "retries huge": {"retries": 10**400},
    "root_id an array": {"root_id": [1]},
    "parent_id an object": {"parent_id": {}},
    "group an array": {"group": [1]},
    "shadow an array": {"shadow": [1]},
    "argsrepr an object": {"argsrepr": {"a": 1}},
    "kwargsrepr a number": {"kwargsrepr": 5},
    "ignore_result a text": {"ignore_result": "x"},
    "origin an object": {"origin": {}},
    "lang a number": {"lang": 5},
    "replaced_task_nesting an array": {"replaced_task_nesting": [1]},
    "compression unknown": {"compression": "x"},
    "compression a number": {"compression": 5},
    "compression without compressed data": {"compression": "zlib"},
    "a method's name": {"update": 5, "get": 5},
    "a private name": {"_children": 5, "__class__": 5},
    "stamp infinite": {"stamp": float("inf")},
    "stamp an array": {"stamp": [1]},
    "unknown header nested": {"other": json.loads(deep(900))},
}
PROPERTIES: dict[str, dict[str, Any]] = {
    "delivery_tag left out": {"delivery_tag": MISSING},
    "delivery_tag null": {"delivery_tag": None},
    "delivery_tag a number": {"delivery_tag": 5},
    "delivery_tag an array": {"delivery_tag": [1]},
    "delivery_tag an object": {"delivery_tag": {}},
    "delivery_tag empty": {"delivery_tag": ""},
    "delivery_info left out": {"delivery_info": MISSING},
    "delivery_info null": {"delivery_info": None},
    "delivery_info an array": {"delivery_info": [1]},
    "delivery_info without routing_key": {"delivery_info": {"exchange": ""}},
    "delivery_info of another list": {"delivery_info": {"exchange": "", "routing_key": "snapshots:events"}},
    "delivery_info of an exchange": {"delivery_info": {"exchange": "x", "routing_key": "y"}},
    "delivery_info of arrays": {"delivery_info": {"exchange": [1], "routing_key": {}}},
    "redelivered an object": {"delivery_info": {"exchange": "", "routing_key": "snapshots", "redelivered": {}}},
    "body_encoding left out": {"body_encoding": MISSING},
    "body_encoding unknown": {"body_encoding": "rot13"},
    "body_encoding a number": {"body_encoding": 5},
    "body_encoding an array": {"body_encoding": [1]},
    "priority a text": {"priority": "x"},
    "priority infinite": {"priority": float("inf")},
    "correlation_id an array": {"correlation_id": [1]},
    "reply_to an object": {"reply_to": {"a": 1}},
}
FIELDS: dict[str, dict[str, Any]] = {
    "content-type null": {"content_type": None},
    "content-type a number": {"content_type": 5},
    "content-type an array": {"content_type": [1]},
    "content-type left out": {"content_type": MISSING},
    "content-type pickle": {"content_type": "application/x-python-serialize"},
    "content-type text": {"content_type": "text/plain"},
    "content-encoding a number": {"content_encoding": 5},
    "content-encoding null": {"content_encoding": None},
    "content-encoding unknown": {"content_encoding": "nonsense"},
    "content-encoding an object": {"content_encoding": {}},
}
WHOLES: dict[str, Any] = {
    "empty": b"",
    "blank": b" ",
    "not JSON": b"hello",
    "truncated JSON": b'{"body": "abc", "headers": {',
    "array": b"[]",
    "array of a message": json.dumps([envelope()]).encode(),
    "null": b"null",
    "number": b"5",
    "string": b'"x"',
    "object": b"{}",
    "not UTF-8": b"\xff\xfe\x00{}",
    "not UTF-8 within a text": json.dumps(envelope()).encode().replace(b"gen1@host", b"gen1@\xff"),
    "lone surrogate": json.dumps(envelope(headers={"origin": "\ud800"})).encode(),
    "nested 100,000": deep(100_000).encode(),
    "nested 100,000 in headers": b'{"headers":' + deep(100_000).encode() + b"}",
    "nested 100,000 and unclosed": b"[" * 100_000,
    "headers null": {**envelope(), "headers": None},
    "headers an array": {**envelope(), "headers": [1]},
    "headers a text": {**envelope(), "headers": "x"},
    "headers left out": {name: value for name, value in envelope().items() if name != "headers"},
    "properties null": {**envelope(), "properties": None},
    "properties an array": {**envelope(), "properties": [1]},
    "properties left out": {name: value for name, value in envelope().items() if name != "properties"},
    "pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00]\x94.",
    "1.5 MB of notes": {**envelope(), "body": text_body(json.dumps([["x" * 1_500_000], {}, {}]))},
    "10 MB": b'{"body":"' + b"A" * 10_000_000 + b'"}',
}


def kinds(queue: str = "snapshots") -> dict[str, bytes]:
    """All malformed messages by name, as they would stand in this queue."""
    return {
        **{f"body: {name}": raw(envelope(queue=queue, body=value)) for name, value in BODIES.items()},
        **{f"header: {name}": raw(envelope(queue=queue, headers=value)) for name, value in HEADERS.items()},
        **{f"property: {name}": raw(envelope(queue=queue, properties=value)) for name, value in PROPERTIES.items()},
        **{f"field: {name}": raw(envelope(queue=queue, **value)) for name, value in FIELDS.items()},
        **{f"message: {name}": raw(value) for name, value in WHOLES.items()},
    }
