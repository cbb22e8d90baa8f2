"""The README's table of settings, made from `worker/settings.py`: `python -m worker.settings_table` writes it."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from worker.settings import PREFIX, Settings

README = Path(__file__).parent.parent / "README.md"
_PLACE = re.compile(r"(<!-- settings:[^\n]*-->\n).*?(<!-- /settings -->)", re.DOTALL)


def table() -> str:
    """Markdown: variable, default, meaning."""
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
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


def with_table(text: str) -> str:
    """The README with today's table."""
    return _PLACE.sub(lambda found: f"{found[1]}\n{table()}\n{found[2]}", text)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
