"""What the tests against real servers begin with."""

from collections.abc import Iterator

import pytest

from support.intake import Producer, producer_on
from support.ledger import Bench, bench_on
from support.pipeline import service_on
from worker.service import Service
from worker.settings import Settings
from worker.stores import indexes


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    """A service of this test's settings; MongoDB's time is read already."""
    with bench_on(settings) as made:
        made.service.clock.now()
        yield made


@pytest.fixture
def indexed(bench: Bench) -> None:
    """The collections have their indexes."""
    indexes.ensure(bench.connections)


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    """With the indexes; it enqueues nothing."""
    with service_on(settings) as made:
        yield made


@pytest.fixture
def producer(settings: Settings) -> Iterator[Producer]:
    """A program that writes to the intake stream."""
    with producer_on(settings) as made:
        yield made
