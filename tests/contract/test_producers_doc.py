"""docs/producers.md: every example runs as it stands there."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from support.contacts import Contact
from support.in_process import pipeline
from support.intake import REJECTED, STREAM
from support.npm import installed
from support.waiting import eventually
from worker.domain.ledger_entry import LedgerEntry
from worker.intake.entries import read_task
from worker.service import Service
from worker.settings import Settings

CHECKOUT = Path(__file__).parents[2]
NODE = CHECKOUT / "tests" / "node"
TEXT = (CHECKOUT / "docs" / "producers.md").read_text()


def blocks(heading: str, language: str) -> list[str]:
    """The code under a heading, up to the next."""
    (_, _, after) = TEXT.partition(f"\n{heading}\n")
    section = re.split(r"^#{2,} ", after, maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def environment(settings: Settings, contact: Contact) -> dict[str, str]:
    return {
        **os.environ,
        "REDIS_URL": settings.redis_url,
        "ORGANIZATION_ID": str(contact.organization),
        "CONTACT_ID": str(contact.id),
        "PYTHONPATH": str(CHECKOUT),
    }


def run(argv: list[str], environment: dict[str, str], cwd: Path | None = None) -> str:
    ended = subprocess.run(argv, env=environment, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def ledger(service: Service) -> list[LedgerEntry]:
    return list(service.ledger.collection.find().sort("_id", 1))


def test_every_language_has_an_example() -> None:
    found = [len(blocks(f"### {name}", language)) for name, language in EXAMPLES]
    assert found == [1, 1, 1, 1, 2, 1, 1, 1]


EXAMPLES = [
    ("Shell", "sh"),
    ("Node: ioredis", "js"),
    ("Node: redis", "js"),
    ("Go", "go"),
    ("Python", "python"),
    ("Celery by name", "python"),
    ("Reading events in Node", "js"),
    ("Reading events in Python", "python"),
]


@pytest.mark.parametrize("number", [0, 1])
def test_the_python_client(
    service: Service, environment: dict[str, str], number: int, client_python: Path, tmp_path: Path
) -> None:
    program = blocks("### Python", "python")[number]
    with pipeline(service):
        said = run([str(client_python), "-c", program], environment | {"PYTHONPATH": ""}, tmp_path)
    (entry,) = ledger(service)
    assert entry["trigger"] == "client"
    assert entry["requestId"] in said
    assert str(entry["snapshotId"]) in said


def test_reading_events_in_python(
    service: Service, environment: dict[str, str], client_python: Path, tmp_path: Path
) -> None:
    bare = environment | {"PYTHONPATH": ""}
    with pipeline(service):
        run([str(client_python), "-c", blocks("### Python", "python")[0]], bare, tmp_path)
    (program,) = blocks("### Reading events in Python", "python")
    assert ledger(service)[0]["requestId"] in first_line([str(client_python), "-uc", program], bare, tmp_path)


def first_line(argv: list[str], environment: dict[str, str], cwd: Path | None = None) -> str:
    """Of a program without end."""
    with subprocess.Popen(argv, env=environment, cwd=cwd, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            return process.stdout.readline()
        finally:
            process.kill()


def test_celery_by_name(service: Service, environment: dict[str, str], contact: Contact) -> None:
    (program,) = blocks("### Celery by name", "python")
    said = run([sys.executable, "-c", program], environment).strip()
    message = json.loads(service.connections.redis.rpop("snapshots"))  # type: ignore[arg-type]
    args, kwargs, _ = json.loads(base64.b64decode(message["body"]))
    assert message["headers"]["task"] == "snapshots.request"
    assert message["headers"]["argsrepr"] == "(...)"
    asked = read_task(args, kwargs, message["headers"]["id"], service.settings)
    assert asked.request_id == f"task:{said}"
    assert asked.request.contact_id == contact.id


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
def test_the_shell(service: Service, environment: dict[str, str]) -> None:
    (add,) = blocks("### Shell", "sh")
    (close,) = blocks("## Closing a conversation", "sh")
    (rejected,) = blocks("## Rejected entries", "sh")
    with pipeline(service):
        entry = run(["sh", "-c", add], environment).strip()
        closing = run(["sh", "-c", close], environment).strip()
        eventually(lambda: any(each["requestId"] == "shell-1" for each in ledger(service)))
    added: Any = service.connections.redis.xrange(STREAM)
    assert [key.decode() for key, _ in added] == [entry, closing]
    service.connections.redis.xadd(REJECTED, {"origin": "1-1"})
    assert "1-1" in run(["sh", "-c", rejected], environment)


@pytest.fixture(scope="session")
def node() -> Path:
    installed(NODE)
    return NODE


def js(heading: str) -> list[str]:
    (program,) = blocks(heading, "js")
    return ["node", "--input-type=module", "-e", program]


@pytest.mark.acceptance
@pytest.mark.timeout(180)
def test_node_sends_requests_and_reads_events(
    service: Service, environment: dict[str, str], node: Path, settings: Settings
) -> None:
    """Needs Node and, once, the npm registry."""
    with pipeline(service):
        names = [run(js(f"### Node: {name}"), environment, node).split()[1] for name in ("ioredis", "redis")]
        eventually(lambda: [each["requestId"] for each in ledger(service) if each["status"] == "completed"] == names)
        argv = js("### Reading events in Node")
        with subprocess.Popen(argv, env=environment, cwd=node, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                lines = [process.stdout.readline() for _ in names]
                with redis.Redis.from_url(settings.redis_url) as server:
                    server.flushdb()
                # The group is made again, what is repeated is passed over, and what is new is read.
                service.events.emit(ledger(service))
                third = run(js("### Node: ioredis"), environment, node).split()[1]
                lines.append(process.stdout.readline())
            finally:
                process.kill()
    assert [line.split()[:2] for line in lines] == [["completed", name] for name in (*names, third)]
