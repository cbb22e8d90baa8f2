"""docs/http.md lists the operations of the HTTP API."""

import re
from collections.abc import Iterator
from pathlib import Path

from fastapi.routing import APIRoute

from worker.api import backfills, create, erasures, exports, health, snapshots, stats

DOCUMENT = Path(__file__).parents[2] / "docs" / "http.md"
MODULES = (backfills, create, erasures, exports, health, snapshots, stats)


def operations() -> Iterator[str]:
    for module in MODULES:
        for route in module.router.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                yield from (f"{method} {route.path_format}" for method in route.methods or ())


def documented() -> Iterator[str]:
    """The rows of the table. `...` stands for the path before it, and a path without a method has the one before it."""
    table = DOCUMENT.read_text().partition("| method and path | purpose |\n")[2].partition("\n\n")[0]
    for line in table.splitlines()[1:]:
        method = path = ""
        for words in (name.split() for name in re.findall(r"`([^`]+)`", line.split("|")[1])):
            method = words[0] if len(words) == 2 else method
            path = words[-1].partition("?")[0].replace("...", path)
            if method:  # /operations is not part of the API
                yield f"{method} {path}"


def test_table_has_each_operation() -> None:
    assert set(documented()) == set(operations())


def test_each_module_with_routes_is_known_here() -> None:
    folder = Path(snapshots.__file__).parent
    routed = {path.stem for path in folder.glob("*.py") if "\nrouter = APIRouter(" in path.read_text()}
    assert routed == {module.__name__.rpartition(".")[2] for module in MODULES}
