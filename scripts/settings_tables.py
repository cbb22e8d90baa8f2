"""Writes the tables of settings in docs/settings.md and docs/data.md: `python scripts/settings_tables.py`."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from worker.settings import PREFIX, Settings
from worker.settings.field_mapping import FieldSettings

_ROOT = Path(__file__).parents[1]
DOCUMENTS = (_ROOT / "docs" / "settings.md", _ROOT / "docs" / "data.md")
_NAMES_OF_FIELDS = FieldSettings.model_fields.keys()
_SECTIONS = {
    "redis_url": "Servers",
    "contacts_collection": "The platform's collections",
    "snapshots_collection": "Collections of this service",
    "create_source_indexes": "Indexes and streams",
    "max_notes_length": "Limits of a request",
    "chunk_size": "Processing and retries",
    "sweep_interval": "Repairs, closings and retention",
    "exports_url": "Exports",
    "erasure_key": "Erasure",
    "jwt_secret": "Tokens",
    "api_host": "HTTP API",
    "flower_url": "Flower, metrics, traces and logs",
}
"""The first setting of each section of docs/settings.md."""
_HEADER = ["| variable | default | description |", "|---|---|---|"]
_PLACE = re.compile(r"(<!-- settings:[^\n]*-->\n).*?(<!-- /settings -->)", re.DOTALL)


def table(of_fields: bool) -> str:
    """Return the settings that name the platform's fields, or all others in sections, as Markdown tables."""
    rows = list(_HEADER) if of_fields else []
    for name, field in Settings.model_fields.items():
        if (name in _NAMES_OF_FIELDS) is not of_fields:
            continue
        if not of_fields and name in _SECTIONS:
            rows += [*([""] if rows else []), f"## {_SECTIONS[name]}", "", *_HEADER]
        rows.append(f"| `{PREFIX}{name.upper()}` | {_shown(field.default)} | {field.description} |")
    return "\n".join(rows) + "\n"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, timedelta):
        seconds = int(value.total_seconds())
        for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
            if seconds % size == 0 and seconds > size:
                return f"`{seconds // size}{unit}`"
        return f"`{seconds}s`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def with_table(document: Path) -> str:
    """Return a document's text with its table of settings replaced by the current one."""
    current = table(of_fields=document != DOCUMENTS[0])
    return _PLACE.sub(lambda match: f"{match[1]}\n{current}\n{match[2]}", document.read_text())


if __name__ == "__main__":
    for each in DOCUMENTS:
        each.write_text(with_table(each))
