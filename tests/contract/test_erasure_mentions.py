"""Other people's snapshots that mention an erased contact: their texts are redacted if that is asked for."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import DatetimeMS, ObjectId

from support.erasing import EMAIL, Erasing, erasing_bench, places_of
from support.exporting import Exporting
from support.ledger import Bench
from worker.erasure import pages, records
from worker.erasure.accepting import accept_erasure
from worker.erasure.mentions import Mentions
from worker.erasure.restoring import restore
from worker.errors import StoreUnavailable
from worker.exports.places import open_destination, open_folder
from worker.exports.verifying import Rebuild, verify
from worker.jobs.job import Job
from worker.runs.run import Run
from worker.settings import Settings

PHONE = "+4930901820"
TEXT = f"Write to {EMAIL.upper()}, not to xx{EMAIL}, or call 030 901820"
CLEAN = f"Write to [EMAIL_1], not to xx{EMAIL}, or call [PHONE_1]"


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    with erasing_bench(settings, tmp_path) as made:
        yield made


def person(bench: Bench) -> ObjectId:
    return bench.contact(email=EMAIL, phoneNumber=PHONE)


def mentioning(bench: Bench, owner: ObjectId, text: str, **body: Any) -> ObjectId:
    """A snapshot of someone else whose second message has this text."""
    conversation = bench.conversation(owner, 3)
    second = {"conversationId": conversation, "content": "Hello 1"}
    bench.database.messages.update_one(second, {"$set": {"content": text}})
    (key,) = bench.accepted(bench.asked(owner, conversationId=conversation, **body))
    Run(bench.service)([key])
    return key


def erase(bench: Bench, contact: ObjectId) -> Job:
    erasing = Erasing(bench)
    job = accept_erasure(erasing.jobs, bench.organization, contact, redact_mentions=True)
    done = erasing.finish(job)
    assert done.status == "completed", done.error
    return done


def test_texts_are_replaced_and_everything_else_stays(bench: Bench) -> None:
    contact, other = person(bench), bench.contact(email="other@example.com", phoneNumber="+15557654321")
    bench.accepted(bench.asked(contact))
    changed = mentioning(bench, other, TEXT, notes=f"friend of {EMAIL}", tags=["a"])
    family = mentioning(bench, bench.contact(email="kin@example.com", phoneNumber=PHONE), "Hello")
    untouched = mentioning(bench, other, "nobody@example.com")
    foreign = bench.database.trainingsnapshots.insert_one(
        {"organizationId": ObjectId(), "messages": [{"content": EMAIL}], "notes": EMAIL}
    ).inserted_id
    before = bench.snapshots()

    receipt = (erase(bench, contact).result or {})["receipt"]

    after = bench.snapshots()
    assert receipt["mentionsRedacted"] == {"snapshotrequests": 1, "trainingsnapshots": 2}
    assert receipt["mentions"] == {"trainingsnapshots": 1}  # within another address
    assert [each["content"] for each in after[changed]["messages"]] == ["Hello 0", CLEAN, "Hello 2"]
    assert after[changed]["notes"] == "friend of [EMAIL_1]"
    assert after[changed]["customerEmail"] == "other@example.com"
    assert after[changed]["erasedMentions"]["counts"] == {"email": 2, "phone": 1}
    array = bson.encode({"messages": after[changed]["messages"]})[4 + len(b"\x04messages\x00") : -1]
    assert after[changed]["contentHash"] == hashlib.sha256(array).hexdigest() != before[changed]["contentHash"]
    changing = {"messages", "notes", "contentHash", "updatedAt", "erasedMentions"}
    assert {name for name in after[changed] if after[changed][name] != before[changed].get(name)} == changing
    assert (after[family]["customerPhone"], after[family]["customerEmail"]) == ("[PHONE_1]", "kin@example.com")
    assert after[family]["contentHash"] == before[family]["contentHash"]
    assert {key: after[key] for key in (untouched, foreign)} == {key: before[key] for key in (untouched, foreign)}
    assert bench.entry(changed)["notes"] == "friend of [EMAIL_1]"


def test_document_that_has_the_number_in_another_spelling_only_is_found(bench: Bench) -> None:
    contact, other = person(bench), bench.contact()
    key = mentioning(bench, other, "Call 030/901 820")
    receipt = (erase(bench, contact).result or {})["receipt"]
    assert receipt["mentionsRedacted"] == {"trainingsnapshots": 1}
    assert [each["content"] for each in bench.snapshots()[key]["messages"]] == ["Hello 0", "Call [PHONE_1]", "Hello 2"]


def test_large_snapshots_and_dates_beyond_the_year_9999_hinder_no_erasure(bench: Bench) -> None:
    """PyMongo returns documents of 100 KB and more in another type, and refuses such dates by default."""
    contact, other = person(bench), bench.contact()
    large = mentioning(bench, other, f"Write to {EMAIL}. {'x' * 300_000}")
    late = {"organizationId": bench.organization, "messages": [], "conversationEndDate": DatetimeMS(2**60)}
    bench.database.trainingsnapshots.insert_one(late)

    receipt = (erase(bench, contact).result or {})["receipt"]
    assert receipt["mentionsRedacted"] == {"trainingsnapshots": 1}
    assert EMAIL not in str(bench.database.trainingsnapshots.find_one({"_id": large}))


def test_without_the_option_they_stay_and_the_receipt_says_nothing_of_it(bench: Bench) -> None:
    contact, other = person(bench), bench.contact()
    key = mentioning(bench, other, TEXT)
    before = bench.snapshots()[key]
    receipt = (Erasing(bench).run(contact).result or {})["receipt"]
    assert "mentionsRedacted" not in receipt
    assert receipt["mentions"] == {"trainingsnapshots": 1}
    assert bench.snapshots()[key] == before


def test_files_of_exports_with_mentions_are_removed_and_rebuilt_clean(bench: Bench, tmp_path: Path) -> None:
    contact, other = person(bench), bench.contact()
    mentioning(bench, other, f"Write to {EMAIL}", notes=EMAIL)
    mentioning(bench, other, "Nobody")
    exporting = Exporting(bench)
    export = exporting.run()
    (gone,) = [name for name, data in exporting.files(export).items() if EMAIL.encode() in data]
    erase(bench, contact)
    folder = Path(str(bench.settings.exports_url))
    assert places_of(bench.database, bench.connections.redis, folder, EMAIL) == []
    destination = open_destination(bench.settings, export.id)
    assert list(verify(destination).faults) == [gone]
    target = open_folder(tmp_path / "again", ObjectId())
    assert Rebuild(bench.service, destination)(target) == []
    assert verify(target).faults == {}
    rows = (tmp_path / "again" / gone).read_text()
    assert (len(rows.splitlines()), rows.count("[EMAIL_1]")) == (2, 2)


def test_erasure_that_is_interrupted_redacts_each_document_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    contact, other = person(bench), bench.contact()
    keys = [mentioning(bench, other, f"{EMAIL} {number}") for number in range(5)]
    erasing = Erasing(bench)
    job = accept_erasure(erasing.jobs, bench.organization, contact, redact_mentions=True)
    redact_one, left = Mentions._redact_one, iter(range(2))

    def interrupted(self: Mentions, *which: Any) -> None:
        redact_one(self, *which)
        if next(left, None) is None:
            raise StoreUnavailable

    monkeypatch.setattr(Mentions, "_redact_one", interrupted)
    with pytest.raises(StoreUnavailable):
        erasing.slice(job)
    monkeypatch.undo()
    done = erasing.finish(job)
    assert done.result
    assert done.result["receipt"]["mentionsRedacted"] == {"trainingsnapshots": 5}
    assert [bench.snapshots()[key]["messages"][1]["content"] for key in keys] == [
        f"[EMAIL_1] {number}" for number in range(5)
    ]


@pytest.mark.parametrize("has_snapshots", [True, False])
def test_mentions_are_redacted_again_after_a_restore(settings: Settings, tmp_path: Path, has_snapshots: bool) -> None:
    own = settings.model_copy(update={"erasure_log": str(tmp_path / "erasures.log")})
    with erasing_bench(own, tmp_path) as bench:
        contact, other = person(bench), bench.contact()
        if has_snapshots:
            mentioning(bench, contact, "Hello")
        key = mentioning(bench, other, TEXT, notes=EMAIL)
        names = ("trainingsnapshots", "snapshotrequests")
        saved = {name: list(bench.database[name].find()) for name in names}
        erase(bench, contact)
        for name in (*names, "snapshoterasures", "snapshotjobs"):
            bench.database[name].delete_many({})
        for name, documents in saved.items():
            bench.database[name].insert_many(documents)

        assert restore(bench.service) == 1

        (job,) = bench.database.snapshotjobs.find({"kind": "erasure"})
        erasing = Erasing(bench)
        assert erasing.finish(erasing.jobs.get(job["_id"])).status == "completed"
        assert set(bench.snapshots()) == {key}
        assert bench.snapshots()[key]["messages"][1]["content"] == CLEAN
        assert bench.entry(key)["notes"] == "[EMAIL_1]"


def test_pages_read_an_index_in_order_and_no_more_than_they_visit(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_PAGE", 20)
    monkeypatch.setattr(records, "_WINDOW", 20)
    of = {"contactId": ObjectId(), "status": "completed"}
    organizations = [bench.organization, ObjectId(), ObjectId()] * 100
    documents = [{"_id": ObjectId(), "organizationId": each, **of} for each in organizations]
    bench.database.trainingsnapshots.insert_many(documents)
    bench.database.snapshotrequests.insert_many({**each, "requestId": str(each["_id"])} for each in documents)
    contact = person(bench)
    bench.database.command("profile", 2)
    erase(bench, contact)
    bench.database.command("profile", 0)
    for name in ("trainingsnapshots", "snapshotrequests"):
        paged = {"ns": f"{bench.database.name}.{name}", "command.find": name, "command.sort": {"_id": 1}}
        reads = list(bench.database["system.profile"].find(paged))
        assert len(reads) >= 10, "of the mentions and of the search"
        for read in reads:
            assert read["docsExamined"] <= 20, read["planSummary"]
            assert read["keysExamined"] <= 30, read["planSummary"]
            assert not read.get("hasSortStage"), read["planSummary"]


@pytest.mark.parametrize("before", [5, {"counts": 5}, {"counts": {"email": "two", "phone": 1}}], ids=str)
def test_odd_counts_of_the_platform_stop_no_redaction(bench: Bench, before: Any) -> None:
    contact = person(bench)
    bench.accepted(bench.asked(contact))
    changed = mentioning(bench, bench.contact(email="other@example.com"), TEXT)
    bench.database.trainingsnapshots.update_one({"_id": changed}, {"$set": {"erasedMentions": before}})
    erase(bench, contact)
    after = bench.snapshots()[changed]
    assert after["messages"][1]["content"] == CLEAN
    assert after["erasedMentions"]["counts"]["email"] == 1
