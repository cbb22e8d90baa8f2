"""Every wrong environment is named at its start, in one sentence with the variable and the fault, within seconds."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.commands import run
from support.programs import Ended, Order, run_programs
from support.waiting import allowed
from support.wrong_environments import WRONG, Wrong
from support.wrong_servers import wrong_servers
from worker.local.embedded import Servers
from worker.settings import load

ARGUMENTS = {
    "status": ("snapshots", ["status"]),
    "doctor": ("snapshots", ["doctor", "--no-request"]),
    "up": ("snapshots", ["up"]),
    "api": ("snapshots", ["api", "--port", "0"]),
    "api on its port": ("snapshots", ["api"]),
    "listen": ("snapshots", ["listen"]),
    "worker": ("celery", ["-A", "worker", "worker", "-P", "solo", "-c", "1"]),
    "beat": ("celery", ["-A", "worker", "beat"]),
    "flower": ("celery", ["-A", "worker", "flower", "--port=0"]),
}
COMMANDS = ("status", "doctor", "up")
SECONDS = 5.0
Results = dict[tuple[str, str], Ended]

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def words(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    settings = load(redis_url=servers.redis_url, mongo_url=servers.mongo_url)
    with wrong_servers(Path(tmp_path_factory.mktemp("wrong")), settings) as started:
        yield started


@pytest.fixture(scope="module")
def ended(servers: Servers, words: dict[str, str]) -> Results:
    """All programs in all environments whose servers could be started."""
    right = {"SNAPSHOTS_MONGO_URL": servers.mongo_url, "SNAPSHOTS_REDIS_URL": servers.redis_url}
    right |= {"SNAPSHOTS_JWT_SECRET": "x" * 40, "FLOWER_BASIC_AUTH": "operator:long-enough"}
    orders = {}
    for wrong in filter(lambda each: _can_run(each, words), WRONG):
        own = {name: _filled(value, words) for name, value in wrong.environment.items()}
        others = {"SNAPSHOTS_JWT_SECRET"} if "JWT_" in wrong.name else set()
        if "two databases" in wrong.name:
            own["SNAPSHOTS_MONGO_DATABASE"] = "messaging"
        environment = {name: value for name, value in right.items() if name not in others} | own
        for program in wrong.programs:
            until = f"{wrong.waits}" if wrong.waits and program not in COMMANDS else ""
            orders[wrong.name, program] = Order(*ARGUMENTS[program], environment, until)
    return dict(zip(orders, run_programs(list(orders.values())), strict=True))


def _can_run(wrong: Wrong, words: dict[str, str]) -> bool:
    return all(name in words for value in wrong.environment.values() for name in re.findall(r"{([\w.]+)}", value))


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub(r"{([\w.]+)}", lambda found: words[found[1]], text)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("wrong", WRONG, ids=lambda each: each.name)
def test_wrong_environment_is_named(wrong: Wrong, ended: Results, words: dict[str, str]) -> None:
    if not _can_run(wrong, words):
        pytest.skip("no redis-server with TLS is installed")
    variable = next(iter(wrong.environment))
    for program in wrong.programs:
        one = ended[wrong.name, program]
        assert "Traceback" not in one.output, (program, one.output)
        assert "hidden" not in one.output, (program, one.output)
        assert one.seconds < allowed(SECONDS), (program, one.output)
        lines = one.output.splitlines()
        if wrong.waits and program not in COMMANDS:
            (said,) = [line for line in lines if wrong.waits in line]
        else:
            assert one.code in (1, 2), (program, one.output)
            said = one.output if program == "doctor" else _only(lines)
        assert re.search(wrong.says, said), (program, one.output)
        assert variable in said or "redis_may_lose_data" in said or program == "doctor", (program, one.output)


def _only(lines: list[str]) -> str:
    """The one sentence that names the fault."""
    (said,) = [line for line in lines if line.startswith(("Error: ", "flower: "))]
    return said


@pytest.mark.parametrize(
    "odd",
    [{"TZ": "Nowhere/Land"}, {"LC_ALL": "xx_XX.KOI8"}, {"PYTHONIOENCODING": "latin-1"}, {"TERM": "dumb"}],
    ids=str,
)
def test_odd_environment_does_no_harm(odd: dict[str, str], servers: Servers) -> None:
    right = {"SNAPSHOTS_MONGO_URL": servers.mongo_url, "SNAPSHOTS_REDIS_URL": servers.redis_url}
    ended = run({**os.environ, **right, **odd}, "status")
    assert (ended.code, ended.stderr) == (0, "")
    assert "There are no requests." in ended.stdout
    assert "\x1b" not in ended.stdout
