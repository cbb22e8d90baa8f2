"""One organization that closes many conversations at once does not delay the closings of the others."""

from datetime import UTC, datetime, timedelta

from bson import ObjectId

from support.closings import token, wait_for, watching
from support.platform import Platform
from support.waiting import eventually
from worker.closings.backlog import ChangesBacklog, Position
from worker.service import Service
from worker.settings import Settings

FLOOD = 2500
START = datetime(2026, 5, 13, tzinfo=UTC)


def test_a_closing_behind_anothers_flood_is_accepted_early(own: Settings, service: Service) -> None:
    many, few = (Platform(service.connections.database) for _ in range(2))
    flood, last = many.converse_often(FLOOD), few.converse_often(1)
    with watching(own):
        before = token(service)
    many.close(*flood)
    few.close(*last)
    with watching(own):
        wait_for(many, [*flood, *last])
        # The position follows once everything before it is in the ledger.
        eventually(lambda: token(service)["reached"] > before["reached"])
    entries = service.ledger.collection.find({}, {"organizationId": 1}).sort("_id", 1)
    organizations = [entry["organizationId"] for entry in entries]
    assert len(organizations) == FLOOD + 1
    # In the first batch of 500 after it was read, perhaps the last one on a busy machine. In order it would be last.
    assert organizations.index(few.organization) < FLOOD - 100


def test_the_position_follows_what_is_accepted_in_order() -> None:
    backlog = ChangesBacklog()
    many, few = ObjectId(), ObjectId()
    ends = [Position({"_data": str(number)}, START + timedelta(seconds=number)) for number in range(4)]
    backlog.add([(many, ObjectId()) for _ in range(3)], ends[0])
    backlog.add([(few, last := ObjectId())], ends[1])
    backlog.add([], ends[2])
    first = backlog.take(2)
    assert last in [each.conversation for each in first]
    assert backlog.settle(first) is None  # two of the first part wait
    assert backlog.settle(backlog.take(1)) is None
    assert backlog.settle(backlog.take(5)) == ends[2]
    assert not backlog
    assert backlog.settle([]) is None
    backlog.add([], ends[3])
    assert backlog.settle([]) == ends[3]
