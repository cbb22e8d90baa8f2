"""An event in Redis ends the wait of a POST before its next poll."""

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, cast

import pytest
from bson import ObjectId

from support.ledger import Bench
from support.redis_server import free_port
from worker.api import poller
from worker.api.event_watch import EventWatch
from worker.api.poller import OutcomePoller, PolledOutcome
from worker.domain.ledger_entry import LedgerEntry
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


class _Now(Executor):
    """Calls at once, in the caller's thread, so that the order of the event loop's steps is always the same."""

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments, **named))
        return future


class _Poller(OutcomePoller):
    """During its first read, an event comes and another caller arrives.

    The other caller's first step is after the outcome was set, before the first caller has gone on.
    """

    others: list[asyncio.Task[PolledOutcome | None]]

    def read(self, requests: Iterable[ObjectId]) -> list[PolledOutcome]:
        (key,) = requests
        if not hasattr(self, "others"):
            self.others = []
            loop = asyncio.get_running_loop()
            loop.call_soon(self._read_now, key)
            loop.call_soon(loop.call_soon, lambda: self.others.append(loop.create_task(self.wait(key, 5))))
        return [PolledOutcome(cast("LedgerEntry", {"_id": key, "status": "completed", "snapshotId": key}), b"{}")]


def test_one_who_comes_as_another_gets_the_outcome_gets_it_too(bench: Bench) -> None:
    async def both() -> tuple[PolledOutcome | None, PolledOutcome | None]:
        waiting = _Poller(bench.service, _Now())
        return await waiting.wait(ObjectId(), 5), await waiting.others[0]

    first, second = asyncio.run(both())
    assert first
    assert second == first
