"""Runs all checks of Schemathesis against a running API: they are on by default."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = "from schemathesis.cli import schemathesis; schemathesis()"
_CONFIGURATION = """
# DELETE cancels a backfill, which is shown afterwards.
[[operations]]
include-path = "/api/training/backfills/{id}"
checks.use_after_free.enabled = false
"""


@dataclass(frozen=True)
class Ids:
    """Existing contacts and snapshots, and texts that no answer may show."""

    contacts: list[str]
    snapshots: list[str]
    foreign: list[str]


def run_schemathesis(url: str, token: str, ids: Ids, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Return the finished run. Its code is 0 if all checks passed."""
    given = {
        "SCHEMATHESIS_HOOKS": "support.http_hooks",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
        "SCHEMA_CONTACTS": ",".join(ids.contacts),
        "SCHEMA_SNAPSHOTS": ",".join(ids.snapshots),
        "SCHEMA_FOREIGN": ",".join(ids.foreign),
    }
    (folder / "schemathesis.toml").write_text(_CONFIGURATION)
    argv = [sys.executable, "-c", _PROGRAM, "run", f"{url}/openapi.json", "--continue-on-failure"]
    return subprocess.run(
        [*argv, "--header", f"Authorization: Bearer {token}", "--no-color", *options],
        env=os.environ | given,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
