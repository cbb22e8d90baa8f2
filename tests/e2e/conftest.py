"""What tests of commands stand on."""

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from support.commands import environment
from support.pipeline import service_on
from worker.service import Service
from worker.settings import Settings


@pytest.fixture
def env(settings: Settings) -> dict[str, str]:
    """The environment of a process on this test's servers."""
    return environment(settings)


@pytest.fixture
def own(mongo_client: MongoClient[Any], database: str) -> Database[dict[str, Any]]:
    """This test's database."""
    return mongo_client[database]


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    """The pipeline in the test's own process."""
    with service_on(settings) as made:
        yield made
