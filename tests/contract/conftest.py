"""Fixtures of the tests against real servers."""

import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.contacts import Contact, contact_with
from support.intake import Producer, producer_on
from support.ledger import Bench, bench_on
from support.pipeline import service_on
from support.wheels import CLIENT, build, link_dependencies, unpack
from worker.client import SnapshotClient
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


@pytest.fixture
def contact(service: Service) -> Contact:
    return contact_with(service.connections.database, 3)


@pytest.fixture
def client(settings: Settings) -> Iterator[SnapshotClient]:
    with SnapshotClient(settings.redis_url) as client:
        yield client


@pytest.fixture(scope="session")
def client_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the distribution `training-snapshots-client` and what it requires."""
    folder = tmp_path_factory.mktemp("client")
    wheel = build(CLIENT, folder / "dist")
    venv.create(folder / "venv", symlinks=True, with_pip=False)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    link_dependencies(wheel, unpack(wheel, site))
    return folder / "venv" / "bin" / "python"
