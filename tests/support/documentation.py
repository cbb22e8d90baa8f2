"""The code blocks of README, CONTRIBUTING and docs/, and how each is tested.

A block of shell commands is run line by line as the tables below say: RUN in a shell, START as a process that has to
become ready, DRY_RUN by `make -n`, and CANNOT_RUN not at all, with the reason. All other blocks are in ELSEWHERE, with
the test that covers them or the reason why none does.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]

RUN = frozenset({"snapshots", ".venv/bin/snapshots", "curl", "redis-cli", ".", "export", "TOKEN=$(snapshots"})
START = {
    "snapshots up": "Ctrl-C stops everything",
    "snapshots listen": "listening",
    "snapshots api": "listening on",
    "snapshots celery worker": " ready.",
    "snapshots celery beat": "beat: Starting",
    "snapshots celery flower": "Visit me at",
}
"""Commands that run until they are stopped, and what they print once they are ready."""
DRY_RUN = frozenset({"make"})
_WHEEL = "installs into /opt; tests/contract/test_wheel.py installs the wheel into a temporary environment"
_UNITS = "needs an installation in /opt and /etc; tests/unit/test_systemd.py compares its paths with those of the units"
CANNOT_RUN = {
    "docker": "needs Docker's engine",
    "kubectl": "needs a cluster",
    "systemctl": "needs systemd as the first process",
    "sudo": "changes the machine",
    "apt-get": "changes the machine",
    "install": "changes the machine",
    "python3": _WHEEL,
    "/opt/training-snapshots-0.2.0/bin/pip": _WHEEL,
    "ln": "changes the machine",
    "set": _UNITS,
    "/opt/training-snapshots/bin/snapshots": _UNITS,
    "cp": "prepares files that are edited by hand",
    ".venv/bin/pip": "changes the environment that the tests run in",
    "pip": "changes the environment that the tests run in",
    "SNAPSHOTS_TRACES=otlp": "two settings, and not a command; tests/contract/test_tracing.py exports traces",
}
"""Commands that cannot be run on any one machine, or by a test, with the reason."""

_PRODUCERS = "run by tests/contract/test_producers_doc.py"
ELSEWHERE = {
    ("*", "mermaid"): "a diagram",
    ("README.md", "producer ──▶ accept"): "a diagram",
    ("docs/operations.md", "producer ─▶ snapshots.accept"): "a diagram",
    ("docs/operations.md", "ACL SETUSER"): "run by tests/e2e/test_redis_acl.py",
    ("docs/operations.md", "snapshots backfill"): "names a job; tests/e2e/test_backfill_command.py runs such commands",
    ("docs/privacy.md", "snapshots redact"): "names a conversation; tests/contract/test_redaction.py has one",
    ("docs/operations.md", "redis[s]://"): "the grammar of a URL, checked by tests/unit/test_redis_url.py",
    ("docs/scaling.md", "SNAPSHOTS_REDIS_URL"): "a setting, tested by tests/e2e/test_redis_sentinel.py",
    ("docs/scaling.md", "min-replicas-to-write"): "lines of redis.conf",
    ("docs/scaling.md", "sentinel monitor"): "lines of sentinel.conf",
    ("docs/scaling.md", "python"): "a producer's settings, as tests/e2e/test_redis_sentinel.py uses them",
    ("docs/operations.md", "db.getSiblingDB"): "needs mongosh; deploy/compose/mongo.js creates a user with these roles",
    ("docs/operations.md", "db.messages.createIndex"): "compared with the code by tests/unit/test_documentation.py",
    ("docs/formats.md", "json"): "compared with the code by tests/unit/formats/test_documented_rows.py",
    ("README.md", "python"): "run by tests/e2e/test_documentation.py",
    ("docs/deploy.md", "[Service]"): "a drop-in for systemd",
    ("docs/producers.md", "python"): _PRODUCERS,
    ("docs/producers.md", "js"): f"{_PRODUCERS} in `make acceptance`, because it needs Node and its registry",
    ("docs/producers.md", "go"): "needs a Go toolchain and its registry",
}
"""By document, and by language or first words of the block."""


@dataclass(frozen=True)
class Block:
    """A code block. `document` is relative to the checkout, `line` its first line there."""

    document: str
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a block for a shell; a command may have several lines."""
        found: list[str] = []
        for line in self.text.splitlines():
            if found and (line.startswith(" ") or found[-1].endswith("\\")):
                found[-1] += f"\n{line}"
            elif line.strip() and not line.startswith("#"):
                found.append(line)
        return found

    @property
    def elsewhere(self) -> tuple[str, str] | None:
        """The key of ELSEWHERE, if the block has one."""
        for document, word in ELSEWHERE:
            if document in {"*", self.document} and (word == self.language or self.text.startswith(word)):
                return document, word
        return None


def blocks() -> Iterator[Block]:
    """Return the code blocks of all documents, fenced and indented ones."""
    for path in DOCUMENTS:
        for token in MarkdownIt().parse(path.read_text()):
            if token.type in {"fence", "code_block"} and token.map:
                first = token.map[0] + 1 + (token.type == "fence")
                yield Block(str(path.relative_to(CHECKOUT)), first, token.info, token.content)


def started(command: str) -> str | None:
    """Return what the command prints once it is ready; None if it ends by itself."""
    bare = command[_end_of_assignments(command) :].removeprefix(".venv/bin/")
    return next((ready for words, ready in START.items() if f"{bare} ".startswith(f"{words} ")), None)


def why_not_run(command: str) -> str | None:
    """Return the reason why a command cannot be run, or None."""
    return CANNOT_RUN.get(command.split(maxsplit=1)[0])


def is_known(command: str) -> bool:
    """Tell whether the tables say how to test this command."""
    word = command.split(maxsplit=1)[0]
    return bool(started(command) or word in RUN or word in DRY_RUN or word in CANNOT_RUN)


def _end_of_assignments(command: str) -> int:
    """Return the position after leading assignments such as `NAME=value `."""
    found = re.match(r"(?:[A-Z_]+=(?:\$\([^)]*\)|\S*) +)*", command)
    return found.end() if found else 0
