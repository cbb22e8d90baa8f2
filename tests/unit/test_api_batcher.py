"""Nobody waits forever for the batcher, the poller, a shared call or an overview, whatever fails in their threads."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from bson import ObjectId

from worker.api.batcher import Batcher
from worker.api.poller import OutcomePoller, PolledOutcome
from worker.api.threads import SharedCall, Threads
from worker.domain.ledger_entry import LedgerEntry
from worker.errors import UnexpectedError
from worker.operations.data.overview import Overview
from worker.operations.overview_cache import OverviewCache
from worker.service import Service


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


Handle = Callable[[Sequence[int]], Sequence[int | Exception]]


def short(items: Sequence[int]) -> Sequence[int | Exception]:
    return items[:-1]


def long(items: Sequence[int]) -> Sequence[int | Exception]:
    return [*items, 0]


def broken(_: Sequence[int]) -> Sequence[int | Exception]:
    raise KeyError("contentHash")


@pytest.mark.parametrize("handle", [short, long, broken])
def test_each_caller_of_a_failed_batch_gets_an_error_and_the_next_batch_works(
    executor: ThreadPoolExecutor, handle: Handle
) -> None:
    fails = True

    def handle_or_echo(items: Sequence[int]) -> Sequence[int | Exception]:
        return handle(items) if fails else items

    async def run() -> tuple[list[Any], int]:
        nonlocal fails
        batcher: Batcher[int, int] = Batcher(handle_or_echo, executor, lambda: 0.01)
        failed = await asyncio.gather(*(batcher(number) for number in range(3)), return_exceptions=True)
        fails = False
        return failed, await batcher(7)

    failed, later = asyncio.run(asyncio.wait_for(run(), 10))
    assert all(isinstance(error, Exception) for error in failed)
    assert later == 7


class FailingOncePoller(OutcomePoller):
    """Its first read fails in a way that no one expected."""

    failed = False

    def read(self, requests: Iterable[ObjectId]) -> list[PolledOutcome]:
        if not self.failed:
            self.failed = True
            raise KeyError("status")
        return [PolledOutcome(cast("LedgerEntry", {"_id": key}), b"{}") for key in requests]


def test_unexpected_error_does_not_end_the_poller(executor: ThreadPoolExecutor) -> None:
    async def run() -> PolledOutcome | None:
        return await FailingOncePoller(cast("Service", None), executor).wait(ObjectId(), 5)

    outcome = asyncio.run(run())
    assert outcome is not None
    assert outcome.document == b"{}"


class WaitingPoller(OutcomePoller):
    """Its requests get no outcome, as while no worker runs."""

    reads = 0

    def read(self, requests: Iterable[ObjectId]) -> list[PolledOutcome]:
        self.reads += len(list(requests))
        return []


def test_request_that_is_repeated_without_end_is_read_no_more_often(executor: ThreadPoolExecutor) -> None:
    """A client that repeats its POST with the same key waits for the same request again."""

    async def run() -> tuple[int, int]:
        poller, key = WaitingPoller(cast("Service", None), executor), ObjectId()
        for _ in range(50):
            assert await poller.wait(key, 0.01) is None
        before = poller.reads
        assert await poller.wait(key, 0.5) is None
        if poller._running:  # until nothing is left to read
            await asyncio.wait_for(poller._running, 5)
        return poller.reads - before, len(poller._schedule) + len(poller._newest)

    reads, left = asyncio.run(run())
    assert reads < 50
    assert left == 0


def test_shared_call_runs_once_for_all_who_await_it_and_again_afterwards() -> None:
    calls = 0

    async def call() -> int:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.05)
        return calls

    async def run() -> tuple[list[int], int]:
        shared = SharedCall(call)
        first = asyncio.create_task(shared())
        others = [asyncio.create_task(shared()) for _ in range(20)]
        await asyncio.sleep(0)
        first.cancel()  # a client that disconnects takes nothing from the others
        return await asyncio.gather(*others), await shared()

    assert asyncio.run(run()) == ([1] * 20, 2)


def test_unexpected_error_of_an_overview_is_raised_and_not_awaited_forever() -> None:
    def make(_: ObjectId | None) -> Overview:
        raise KeyError("pending")

    threads = Threads("overview", 1)
    try:
        with pytest.raises(UnexpectedError):
            asyncio.run(OverviewCache(make, threads).get(None, 10))
    finally:
        threads.close()
