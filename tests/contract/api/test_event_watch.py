"""An event in Redis ends the wait of a POST before its next poll."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from bson import ObjectId

from support.ledger import Bench
from support.redis_server import free_port
from worker.api import poller
from worker.api.event_watch import EventWatch
from worker.api.poller import OutcomePoller, PolledOutcome
from worker.runs.run import Run
from worker.settings import Settings


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


async def _outcome(bench: Bench, settings: Settings, executor: ThreadPoolExecutor, key: ObjectId) -> PolledOutcome:
    """Wait for the outcome of a request that runs meanwhile. Its event is repeated: the watch may begin late."""
    waiting = OutcomePoller(bench.service, executor, EventWatch(settings))
    outcome = asyncio.create_task(waiting.wait(key, 30))
    await asyncio.to_thread(Run(bench.service), [key])
    while not (await asyncio.wait([outcome], timeout=0.1))[0]:
        bench.service.events.emit([bench.entry(key)])
    found = await outcome
    assert found
    return found


def test_an_event_ends_the_wait_before_the_next_poll(
    bench: Bench, settings: Settings, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "_FIRST_SECONDS", 60.0)
    (key,) = bench.chunk(1)
    found = asyncio.run(_outcome(bench, settings, executor, key))
    assert found.document is not None
    assert (found.entry["_id"], found.entry["status"], found.entry["snapshotId"]) == (key, "completed", key)


def test_without_redis_the_outcome_is_polled_for(bench: Bench, executor: ThreadPoolExecutor) -> None:
    (key,) = bench.accepted(bench.asked(bench.contact()))
    without = bench.settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port()}/0"})
    found = asyncio.run(_outcome(bench, without, executor, key))
    assert (found.document, found.entry["error"]["code"]) == (None, "empty_conversation")
