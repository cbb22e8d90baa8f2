"""How the messages of closed conversations are counted for their policies."""

from typing import Any

import pytest

from support.platform import Platform
from worker.closings import admission
from worker.closings.accept import Closings
from worker.closings.policies import Policies
from worker.closings.results import ClosedConversation, Skipped
from worker.service import Receipt, Service
from worker.source.message_pipeline import MIN_MESSAGE_SIZE
from worker.stores import indexes


def reads_of_messages(service: Service) -> list[dict[str, Any]]:
    """The aggregations of messages that MongoDB's profiler has recorded."""
    database = service.connections.database
    profile = database["system.profile"]
    found = list(profile.find({"ns": database.messages.full_name, "command.aggregate": "messages"}))
    profile.drop()
    return found


def test_messages_of_one_conversation_are_counted_up_to_what_a_snapshot_can_hold(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise one conversation with millions of messages would stop the closings of everyone."""
    monkeypatch.setattr(admission, "LARGEST", 20 * MIN_MESSAGE_SIZE)
    platform = Platform(service.connections.database)
    indexes.ensure(service.connections)
    huge = platform.converse(messages=500)
    platform.close(huge)
    for policy in ({}, {"minimumFromUser": 2}):
        Policies(service.connections).set(platform.organization, policy)
        service.connections.database.command("profile", 2)
        (result,) = Closings(service).accept([ClosedConversation(platform.organization, huge)])
        service.connections.database.command("profile", 0)
        assert isinstance(result, Receipt)
        (read,) = reads_of_messages(service)
        assert read["keysExamined"] <= 22
        service.ledger.collection.delete_many({})


def test_one_policy_that_counts_sides_does_not_read_the_messages_of_others(service: Service) -> None:
    database = service.connections.database
    indexes.ensure(service.connections)
    plain, sided = Platform(database), Platform(database)
    Policies(service.connections).set(sided.organization, {"minimumFromContact": 3})
    closings = []
    for platform in (plain, sided):
        for conversation in platform.converse_often(3, messages=4):
            platform.close(conversation)
            closings.append(ClosedConversation(platform.organization, conversation))
    database.command("profile", 2)
    results = Closings(service).accept(closings)
    database.command("profile", 0)
    assert [type(each) for each in results] == [Receipt] * 3 + [Skipped] * 3
    examined = sorted(each["docsExamined"] for each in reads_of_messages(service))
    assert examined == [0, 12]
