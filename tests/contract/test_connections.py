"""The translation of PyMongo's errors: the store is unreachable, or only this operation failed."""

from typing import Any
from urllib.parse import urlsplit

import pymongo
import pytest

from support.dropping import forwarder_to
from support.faults import failing
from worker.errors import StoreConflict, StoreUnavailable
from worker.settings import Settings
from worker.stores.connections import Connections, store_errors


@pytest.fixture
def connections(settings: Settings) -> Any:
    made = Connections(settings)
    yield made
    made.close()


def test_reads_go_to_the_primary_whatever_the_url_says(settings: Settings) -> None:
    url = f"{settings.mongo_url}&readPreference=secondaryPreferred"
    connections = Connections(settings.model_copy(update={"mongo_url": url}))
    assert connections.database.read_preference == pymongo.ReadPreference.PRIMARY
    connections.close()


def test_time_limit_reported_by_the_server_is_a_conflict(
    connections: Connections, mongo_client: pymongo.MongoClient[Any]
) -> None:
    with failing(mongo_client, ["find"], errorCode=50), pytest.raises(StoreConflict), store_errors():
        connections.database.contacts.find_one({})


def test_less_time_than_a_round_trip_means_that_the_store_is_unavailable(connections: Connections) -> None:
    connections.database.contacts.find_one({})
    with pytest.raises(StoreUnavailable), store_errors(), pymongo.timeout(1e-6):
        connections.database.contacts.find_one({})


def test_reply_that_does_not_come_means_that_the_store_is_unavailable(settings: Settings) -> None:
    with forwarder_to(settings.mongo_url) as (forwarder, url):
        # A direct connection, because a replica set names its own addresses.
        through = urlsplit(url)._replace(query="directConnection=true&heartbeatFrequencyMS=60000").geturl()
        connections = Connections(settings.model_copy(update={"mongo_url": through}))
        try:
            connections.database.contacts.find_one({})
            forwarder.silence()
            with pytest.raises(StoreUnavailable), store_errors(), pymongo.timeout(0.3):
                connections.database.contacts.find_one({})
        finally:
            connections.close()


def test_retries_that_run_out_of_time_mean_that_the_store_is_unavailable(
    connections: Connections, mongo_client: pymongo.MongoClient[Any]
) -> None:
    """PyMongo retries a read while the server closes its connections; which error it raises in the end varies."""
    down = failing(mongo_client, ["find"], closeConnection=True)
    with down, pytest.raises(StoreUnavailable), store_errors(), pymongo.timeout(0.3):
        connections.database.contacts.find_one({})
