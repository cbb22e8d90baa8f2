"""The documentation at /docs: one page made of the OpenAPI document, with nothing from the network."""

import json
from collections.abc import Iterator
from html import escape
from typing import Any

Schema = dict[str, Any]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #0a7; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin: 3rem 0 .5rem; font-size: 1.1rem; overflow-wrap: anywhere; }
h2 b { color: var(--accent); margin-right: .5rem; } a { color: inherit; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; border-radius: .4rem; font-size: .85rem; }
table { border-collapse: collapse; width: 100%; display: block; overflow-x: auto; }
td, th { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); }
summary { cursor: pointer; }
"""


def documentation(document: Schema) -> str:
    """The page."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])}</h1>{_text(info['description'])}",
        "<p>For programs: <a href=openapi.json>openapi.json</a> (OpenAPI 3.1).</p>",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts += _operation(document, method.upper(), path, operation)
    return "".join(parts)


def _text(markdown: str) -> str:
    """Paragraphs, and indented lines as code: all that the description has."""
    blocks = markdown.strip().split("\n\n")
    return "".join(
        f"<pre>{escape(block)}</pre>" if block.startswith("    ") else f"<p>{escape(block).replace('`', '')}</p>"
        for block in blocks
    )


def _operation(document: Schema, method: str, path: str, operation: Schema) -> Iterator[str]:
    yield f"<h2 id={operation['operationId']}><b>{method}</b>{escape(path)}</h2>"
    yield f"<p>{escape(operation['summary'])}. {escape(operation.get('description', ''))}</p>"
    if parameters := operation.get("parameters"):
        given = ((each["name"], each["in"], each["description"], _limits(each["schema"])) for each in parameters)
        yield _table(("parameter", "in", "", "allowed"), given)
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        example = json.dumps(content["example"], indent=2, ensure_ascii=False)
        yield f"<p>Body, {escape(kind)}:</p><pre>{escape(example)}</pre>"
        rows = ((name, _limits(each)) for name, each in content["schema"]["properties"].items())
        yield _table(("field", "allowed"), rows)
    yield _table(("status", ""), ((status, each["description"]) for status, each in operation["responses"].items()))
    for status, answer in operation["responses"].items():
        schema = answer.get("content", {}).get("application/json", {}).get("schema")
        if schema and status.startswith("2"):
            shown = json.dumps(_sample(document, schema), indent=2, ensure_ascii=False)
            yield f"<details><summary>What {status} looks like</summary><pre>{escape(shown)}</pre></details>"


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}' for cell in row)}" for row in rows)
    return f"<table><tr>{''.join(f'<th>{each}' for each in head)}{lines}</table>"


def _limits(schema: Schema) -> str:
    """A schema in a few words."""
    if "anyOf" in schema:
        return " or ".join(_limits(each) for each in schema["anyOf"])
    if schema.get("maxLength") == 0:
        return "empty"
    if schema.get("pattern") == "^[0-9a-fA-F]{24}$":
        return "24 hex digits"
    words = [str(schema.get("format") or schema.get("type", ""))]
    words += [", ".join(each or '""' for each in schema["enum"])] if "enum" in schema else []
    words += [f"of {_limits(schema['items'])}"] if "items" in schema else []
    names = {"minimum": "from", "maximum": "to", "maxLength": "at most", "maxItems": "at most", "default": "default"}
    words += [f"{name} {schema[key]}" for key, name in names.items() if key in schema]
    return " ".join(words)


def _sample(document: Schema, schema: Schema) -> Any:
    """An instance of a response's schema."""
    if "$ref" in schema:
        return _sample(document, document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
    for key in ("examples", "enum"):
        if key in schema:
            return schema[key][0]
    if "anyOf" in schema:
        return _sample(document, schema["anyOf"][0])
    if schema.get("type") == "object":
        return {name: _sample(document, each) for name, each in schema.get("properties", {}).items()}
    if schema.get("type") == "array":
        return [_sample(document, schema["items"])]
    return schema.get("const", {"integer": 1, "boolean": False}.get(schema.get("type", ""), "text"))
