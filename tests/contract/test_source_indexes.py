"""The listener works without an index that MongoDB refuses on one of the platform's collections."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from support.intake import Producer, listening
from worker.bootstrap import build
from worker.service import Service
from worker.settings import Settings

Database = Any


def fill_with_indexes(database: Database) -> None:
    for number in range(63):
        database.conversations.create_index([(f"field{number}", 1)])


def make_a_view(database: Database) -> None:
    database.create_collection("conversations", viewOn="conversationsOfAll", pipeline=[])


def make_parallel_arrays(database: Database) -> None:
    database.conversations.insert_one({"organizationId": [1, 2], "contactId": [1, 2]})


@pytest.mark.parametrize("prepare", [fill_with_indexes, make_a_view, make_parallel_arrays])
def test_a_refused_source_index_is_named_and_does_not_stop_the_listener(
    prepare: Any, producer: Producer, settings: Settings
) -> None:
    service: Service = build(settings)
    prepare(service.connections.database)
    with capture_logs() as records, listening(service):
        producer.request("r")
        producer.wait_until_settled()
    assert [entry["requestId"] for entry in service.ledger.collection.find()] == ["r"]
    service.connections.close()
    refused = [record for record in records if record["event"] == "source_index_refused"]
    assert {record["collection"] for record in refused} == {"conversations"}
    assert all("SNAPSHOTS_CREATE_SOURCE_INDEXES" in record["hint"] for record in refused)
    assert all(record["log_level"] == "warning" for record in refused)
