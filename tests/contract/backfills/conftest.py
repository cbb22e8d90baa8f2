"""What the tests of backfills share: a service whose pages are small."""

from collections.abc import Iterator

import pytest

from support.ledger import Bench, bench_on
from worker.jobs.store import Jobs
from worker.settings import Settings
from worker.stores import indexes


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    with bench_on(settings.model_copy(update={"chunk_size": 10})) as made:
        indexes.ensure(made.connections)
        yield made


@pytest.fixture
def jobs(bench: Bench) -> Jobs:
    return Jobs(bench.service)
