"""The checker finds each deliberate bug. The short run shows that it finds nothing without one."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos import servers
from chaos.context import Context
from chaos.faults import broker
from chaos.faults.erasure import erase_contact
from chaos.run import Options, run_on
from worker.local.data_folder import DataFolder, data_folder

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

QUICK = {"run_deadline": "1s", "sweep_interval": "1s"}
"""Lost requests are swept after 7 s."""
_SECONDS = 8.0


@pytest.fixture(scope="module")
def stores() -> Iterator[tuple[servers.Servers, DataFolder]]:
    with data_folder() as folder, servers.running(folder) as started:
        yield started, folder


def kill_at(*points: str) -> Callable[[Context], None]:
    """Returns a script by which processes die at these points, one after the other. Notes points that none reaches."""

    def script(context: Context) -> None:
        for point in points:
            path = context.system.points.arm(point)
            deadline = time.monotonic() + _SECONDS
            while path.exists() and time.monotonic() < deadline:
                context.pause(0.05)
            if path.exists():
                path.unlink(missing_ok=True)  # it would kill a process of the next test
                context.missed.append(f"{point}: no process reached it")

    return script


kill_accepting = kill_at(*["submit-before"] * 5)
"""About two of three messages have no request id, so that nobody sends them again."""


def deliver_all_twice(context: Context) -> None:
    context.pause(_SECONDS / 2)
    broker.deliver_twice(context)
    context.pause(2.0)
    broker.deliver_twice(context)


@pytest.mark.parametrize(
    ("bug", "script", "expected"),
    [
        ("emit_before_decide", kill_at("inserted-in-transaction", "decided-in-transaction"), "events differ"),
        ("clear_unsent_before_emit", kill_at("emit-before", "emit-before"), "events missing"),
        ("insert_outside_transaction", kill_at("inserted-in-transaction"), "during the run"),
        ("random_request_id", deliver_all_twice, "duplicates"),
        ("no_sweep", kill_at("fetch-before", "decide-before"), "lost"),
        ("accept_erased", erase_contact, "erased, and found"),
        ("acknowledge_lost_messages", kill_accepting, "lost"),
    ],
)
def test_checker_finds(
    bug: str,
    script: Callable[[Context], Any],
    expected: str,
    stores: tuple[servers.Servers, DataFolder],
    tmp_path: Path,
) -> None:
    started, folder = stores
    with started.redis() as redis:
        redis.flushall()
    listening = bug in {"random_request_id", "accept_erased"}
    options = Options(
        requests=160,
        seconds=_SECONDS,
        settings=QUICK | {"mongo_database": bug},
        extra={"CHAOS_BUG": bug, "CHAOS_CLOCK": ""},
        channels=("stream", "task") if listening else ("task", "bulk"),
        without=("api", "listener2", *(() if listening else ("listener1",))),
        drain_seconds=60 if bug == "accept_erased" else 12,
        files=tmp_path,
    )
    result = run_on(started, folder, options, script)
    print(result.table)
    assert result.verdict.violations[expected]


def test_message_whose_process_dies_before_it_accepts_the_request_is_not_lost(
    stores: tuple[servers.Servers, DataFolder], tmp_path: Path
) -> None:
    """The same deaths without the bug, and time for every message to come back."""
    started, folder = stores
    with started.redis() as redis:
        redis.flushall()
    options = Options(
        requests=160,
        seconds=_SECONDS,
        settings=QUICK | {"mongo_database": "no_bug"},
        extra={"CHAOS_CLOCK": ""},
        channels=("task",),
        without=("api", "listener1", "listener2"),
        drain_seconds=150,
        files=tmp_path,
    )
    result = run_on(started, folder, options, kill_accepting)
    print(result.table)
    assert not result.missed
    assert result.verdict.messages > 80
    assert result.settled
    assert result.verdict.holds
