"""Connections that stay open although nothing arrives any more, as after a partition: they are given up in time."""

from urllib.parse import urlsplit

import pytest
from bson import ObjectId

from support.closings import closed, watching, without_delays
from support.dropping import forwarder_to
from support.intake import Producer, listening
from support.pipeline import service_on
from support.platform import Platform
from support.waiting import eventually
from worker.settings import Settings

_SECONDS = 30.0
"""Without an end of their own, reads would wait for 15 minutes, until the kernel gives up."""


def test_closings_are_seen_again_after_all_connections_to_mongodb_went_silent(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.closings.change_stream._ANSWER_SECONDS", 2.0)
    own = without_delays(settings)
    with forwarder_to(own.mongo_url) as (forwarder, url), service_on(own) as service:
        platform = Platform(service.connections.database)
        # A direct connection, because a replica set names its own addresses; its monitor does not notice either.
        query = "directConnection=true&heartbeatFrequencyMS=60000"
        through = urlsplit(url)._replace(query=query).geturl()
        before, after = platform.converse_often(2)
        with watching(own.model_copy(update={"mongo_url": through})):
            platform.close(before)
            eventually(lambda: closed(platform) == {before}, _SECONDS)
            forwarder.silence()
            platform.close(after)
            eventually(lambda: closed(platform) == {before, after}, _SECONDS)


def test_listener_goes_on_after_its_connections_to_redis_went_silent(settings: Settings, producer: Producer) -> None:
    with forwarder_to(settings.redis_url) as (forwarder, url):
        own = settings.model_copy(update={"redis_url": url})
        with service_on(own) as service, listening(service):
            producer.request("before")
            producer.wait_until_settled()
            forwarder.silence()
            producer.request("after", contactId=str(ObjectId()))
            producer.wait_until_settled(_SECONDS)
            entries = service.ledger.collection.find()
            assert {entry["requestId"] for entry in entries} == {"before", "after"}
