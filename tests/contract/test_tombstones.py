"""A contact with a tombstone makes no snapshot, by whatever way its request comes."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pydantic import SecretStr

from support.ledger import Bench, bench_on
from support.neutral import conversation, write
from worker.closings.accept import Closings
from worker.closings.results import ClosedConversation, Skipped
from worker.errors import ContactErased, ErasureKeyDiffers, StoreConflict
from worker.importing import import_files
from worker.intake.batch import Intake
from worker.intake.stream import IntakeStream
from worker.operations.data.rejected_entries import RejectedEntries
from worker.operations.data.resubmission import Resubmission
from worker.runs.run import Run
from worker.service import Receipt
from worker.settings import Settings
from worker.source import conversations
from worker.stores.stats import identities
from worker.stores.tombstones import KEY_MARK
from worker.telemetry.counters import IntakeCounts

NOW = datetime(2026, 11, 29, tzinfo=UTC)


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    with bench_on(settings.model_copy(update={"erasure_key": SecretStr("k" * 32)})) as made:
        made.service.clock.now()
        yield made


def bury(bench: Bench, contact: ObjectId, **fields: Any) -> None:
    tombstones = bench.service.tombstones
    key = tombstones.hash((bench.organization, contact))
    tombstones.put([{"_id": key, "organizationId": bench.organization, "erasedAt": NOW, **fields}])


def test_request_of_an_erased_contact_is_refused_and_others_are_accepted(bench: Bench) -> None:
    erased, other = bench.contact(), bench.contact()
    first = bench.asked(erased, "first", conversationId=bench.conversation(erased))
    bench.accepted(first)
    bury(bench, erased)
    refused, accepted, repeated = bench.service.accept([bench.asked(erased), bench.asked(other), first])
    assert isinstance(refused, ContactErased)
    assert isinstance(accepted, Receipt)
    assert isinstance(repeated, ContactErased)


def test_accepted_request_of_an_erased_contact_fails_and_loses_what_the_caller_sent(bench: Bench) -> None:
    erased, other = bench.contact(), bench.contact()
    asked = bench.asked(erased, conversationId=bench.conversation(erased), notes="Priya called", tags=["vip"])
    doomed, fine = bench.accepted(asked, bench.asked(other, conversationId=bench.conversation(other)))
    bury(bench, erased)
    result = Run(bench.service)([doomed, fine])
    assert (result.completed, result.failed) == (1, 1)
    assert set(bench.snapshots()) == {fine}
    entry = bench.entry(doomed)
    assert (entry["status"], entry["error"]["code"]) == ("failed", "erased")
    assert not {"contactId", "conversationId", "notes", "tags", "unsent"} & set(entry)
    (event,) = [each for each in bench.events() if each["subject"] == str(doomed)]
    assert (event["type"], event["data"]["contactId"]) == ("training.snapshot.failed", None)
    assert str(erased) not in json.dumps(bench.events())
    assert bench.service.redrive([doomed]) == []
    (identity,) = identities(bench.connections, bench.organization)
    assert identity.holds


def test_run_that_looked_before_the_tombstone_conflicts_with_the_erasure_of_its_entry(bench: Bench) -> None:
    contact = bench.contact()
    (key,) = bench.accepted(bench.asked(contact, conversationId=bench.conversation(contact)))
    fetch = bench.service.conversations.fetch

    def look_then_be_overtaken(entries: Any) -> Any:
        found = list(fetch(entries))
        bury(bench, contact)
        bench.change([key], status="failed", error=ContactErased().outcome(), finishedAt=NOW)
        return iter(found)

    bench.service.conversations.fetch = look_then_be_overtaken  # type: ignore[method-assign]
    Run(bench.service)([key])
    assert bench.snapshots() == {}
    assert bench.entry(key)["status"] == "failed"


@pytest.mark.parametrize("in_bulk", [True, False])
def test_tombstone_that_is_written_after_the_entries_were_loaded_is_seen(
    bench: Bench, in_bulk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    contact, other = bench.contact(), bench.contact()
    keys = bench.accepted(*(bench.asked(each, conversationId=bench.conversation(each)) for each in (contact, other)))
    load = bench.service.ledger.load

    def load_then_be_overtaken(ids: Any) -> Any:
        loaded = load(ids)
        bury(bench, contact)
        return loaded

    def cut_short(*_: Any) -> Any:
        raise StoreConflict

    bench.service.ledger.load = load_then_be_overtaken  # type: ignore[method-assign]
    if not in_bulk:
        monkeypatch.setattr(conversations, "read_parents_and", cut_short)
    result = Run(bench.service)(keys)
    assert (result.completed, result.failed) == (1, 1)
    assert set(bench.snapshots()) == {keys[1]}
    assert bench.entry(keys[0])["error"]["code"] == "erased"


def test_lifted_tombstone_has_no_effect(bench: Bench) -> None:
    contact = bench.contact()
    bury(bench, contact)
    bury(bench, contact, liftedAt=NOW)
    assert isinstance(bench.service.accept([bench.asked(contact)])[0], Receipt)


def test_process_with_another_key_accepts_and_decides_nothing(bench: Bench) -> None:
    erased, other = bench.contact(), bench.contact()
    (open_,) = bench.accepted(bench.asked(other, conversationId=bench.conversation(other)))
    bury(bench, erased)
    for key in (None, SecretStr("x" * 32)):
        stranger = bench.another(erasure_key=key)
        with pytest.raises(ErasureKeyDiffers):
            stranger.service.accept([stranger.asked(erased)])
        with pytest.raises(ErasureKeyDiffers):
            Run(stranger.service)([open_])
        with pytest.raises(ErasureKeyDiffers):
            stranger.service.tombstones.put([])
        stranger.connections.close()
    assert bench.entry(open_)["status"] == "accepted"


def test_tombstone_holds_no_id(bench: Bench) -> None:
    contact = bench.contact()
    bury(bench, contact)
    (found,) = bench.database.snapshoterasures.find({"_id": {"$ne": KEY_MARK}})
    assert str(contact) not in str(found)


def test_stream_entry_of_an_erased_contact_is_rejected_without_its_content(bench: Bench) -> None:
    contact = bench.contact()
    bury(bench, contact)
    body = {"organizationId": str(bench.organization), "contactId": str(contact), "notes": "Priya called"}
    stream = IntakeStream(bench.connections, "listener")
    bench.connections.redis.xadd("snapshots:requests", {"type": "snapshot.requested", "data": json.dumps(body)})
    stream.read_new(1)  # makes the group
    entries, _ = stream.read_new(10)
    assert Intake(bench.service, stream, IntakeCounts())(entries) == 0
    found: Any = bench.connections.redis.xrange("snapshots:rejected")
    ((_, rejected),) = found
    assert b"erased" in rejected[b"reason"]
    assert rejected[b"entry"] == b"{}"
    assert bench.connections.redis.xlen("snapshots:requests") == 0
    assert bench.database.snapshotrequests.count_documents({}) == 0


def test_closing_of_an_erased_contact_is_skipped(bench: Bench) -> None:
    contact = bench.contact()
    conversation = bench.conversation(contact, isResolved=True, resolvedAt=NOW)
    bury(bench, contact)
    (result,) = Closings(bench.service).accept([ClosedConversation(bench.organization, conversation)])
    assert isinstance(result, Skipped)
    assert result.reason == "erased"


def test_rejected_entry_of_an_erased_contact_cannot_be_resubmitted(bench: Bench) -> None:
    contact = bench.contact()
    bury(bench, contact)
    original: dict[str | bytes, Any] = {"type": "snapshot.requested", "data": "{"}
    bench.service.events.reject({"code": "invalid_request", "message": ""}, original, "1-1")
    entries = RejectedEntries(bench.connections)
    (entry,), _ = entries.page(None, 10)
    data = json.dumps({"organizationId": str(bench.organization), "contactId": str(contact)})
    with pytest.raises(ContactErased):
        Resubmission(bench.service, entries).resubmit(entry, "snapshot.requested", data, None)


def test_conversation_of_an_erased_contact_is_not_imported(bench: Bench, tmp_path: Path) -> None:
    known = bench.contact(email="c1@example.com")
    bury(bench, known)
    path = write(tmp_path / "some.jsonl", [conversation("c1"), conversation("c2")])
    report = import_files([path], bench.organization, bench.connections)
    assert (report.stored, len(report.refused)) == (1, 1)
    assert "erased" in str(report.refused)
    assert bench.database.messages.count_documents({"contactId": known}) == 0
