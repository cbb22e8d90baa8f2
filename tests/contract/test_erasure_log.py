"""A restored backup brings nobody back, and a contact under a legal hold is not erased."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pydantic import SecretStr

from support.erasing import Erasing, erasing_bench, person
from support.ledger import Bench
from support.programs import Order, run_programs
from worker.doctor import erasure_checks
from worker.doctor.findings import Level
from worker.erasure.accepting import lift
from worker.erasure.holds import Holds, LegalHold
from worker.erasure.restoring import restore
from worker.errors import ContactErased, InvalidSettings, NotFound
from worker.jobs.store import Jobs
from worker.runs.run import Run
from worker.service import Receipt
from worker.settings import Settings


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    with erasing_bench(settings.model_copy(update={"erasure_log": str(tmp_path / "erasures.log")}), tmp_path) as made:
        made.service.clock.now()
        yield made


def completed(bench: Bench, contact: ObjectId) -> ObjectId:
    (key,) = bench.accepted(bench.asked(contact, conversationId=bench.conversation(contact)))
    Run(bench.service)([key])
    return key


def backup(bench: Bench) -> dict[str, list[dict[str, Any]]]:
    names = ("trainingsnapshots", "snapshotrequests", "snapshoterasures", "snapshotjobs")
    return {name: list(bench.database[name].find()) for name in names}


def restore_backup(bench: Bench, saved: dict[str, list[dict[str, Any]]]) -> None:
    for name, documents in saved.items():
        bench.database[name].delete_many({})
        if documents:
            bench.database[name].insert_many(documents)


def failures(bench: Bench) -> list[str]:
    return [each.message for each in erasure_checks.check(bench.service) if each.level is Level.FAILURE]


def test_restored_backup_brings_nobody_back(bench: Bench) -> None:
    contact, other = person(bench), bench.contact()
    completed(bench, contact)
    kept = completed(bench, other)
    saved = backup(bench)
    Erasing(bench).run(contact)
    assert failures(bench) == []
    restore_backup(bench, saved)
    assert len(bench.snapshots()) == 2
    (fault,) = failures(bench)
    assert "older" in fault

    assert restore(bench.service) == 1

    assert set(bench.snapshots()) == {kept}
    assert isinstance(bench.service.accept([bench.asked(contact)])[0], ContactErased)
    assert failures(bench) == []
    assert restore(bench.service) == 0
    (job,) = bench.database.snapshotjobs.find({"kind": "erasure"})
    assert Erasing(bench).finish(Erasing(bench).jobs.get(job["_id"])).status == "completed"


def test_restored_snapshots_with_ids_as_text_are_removed_again(bench: Bench) -> None:
    """The platform's own snapshots may have such ids, and no request."""
    contact = person(bench)
    theirs = {"organizationId": str(bench.organization), "contactId": str(contact).upper(), "messages": []}
    bench.database.trainingsnapshots.insert_one(theirs)
    saved = backup(bench)
    Erasing(bench).run(contact)
    restore_backup(bench, saved)

    assert restore(bench.service) == 1
    assert bench.snapshots() == {}


def test_restored_hold_of_an_erased_contact_is_removed(bench: Bench) -> None:
    contact = person(bench)
    Erasing(bench).run(contact)
    bench.database.snapshoterasures.delete_many({})
    Holds(bench.service).set((bench.organization, contact), "case 7", bench.service.clock.now() + timedelta(days=1))
    bench.database.snapshotholds.update_many({}, {"$set": {"setAt": bench.ago(days=1)}})  # before the erasure

    assert restore(bench.service) == 1
    assert bench.database.snapshotholds.count_documents({}) == 0


def test_hold_that_was_set_after_an_erasure_was_not_committed_is_kept(bench: Bench) -> None:
    """The log is written before the database, which may then be unreachable."""
    contact = person(bench)
    (key,) = bench.accepted(bench.asked(contact, conversationId=bench.conversation(contact)))
    Run(bench.service)([key])
    Erasing(bench).accept(contact)
    for name in ("snapshoterasures", "snapshotjobs"):
        bench.database[name].delete_many({})
    bench.advance(seconds=5)
    Holds(bench.service).set((bench.organization, contact), "case 7", bench.service.clock.now() + timedelta(days=1))

    assert restore(bench.service) == 0
    assert set(bench.snapshots()) == {key}
    assert bench.database.snapshotholds.count_documents({"contactId": contact}) == 1
    assert bench.database.snapshoterasures.count_documents({}) == 0
    bench.database.snapshotholds.delete_many({})
    assert restore(bench.service) == 1
    assert bench.snapshots() == {}


def test_lifted_erasure_stays_lifted_after_a_restore(bench: Bench) -> None:
    contact = person(bench)
    Erasing(bench).run(contact)
    saved = backup(bench)
    lift(Jobs(bench.service), bench.organization, contact)
    restore_backup(bench, saved)
    assert restore(bench.service) == 1
    assert isinstance(bench.service.accept([bench.asked(contact)])[0], Receipt)


def test_line_that_a_crash_cut_short_is_skipped_and_spoils_no_other(bench: Bench) -> None:
    contact = person(bench)
    Erasing(bench).run(contact)
    path = bench.settings.erasure_log
    assert path
    with Path(path).open("ab") as file:
        file.write(b'{"hash": "ab')
    Erasing(bench).run(bench.contact())
    bench.database.snapshoterasures.delete_many({})
    assert restore(bench.service) == 2


def test_log_that_cannot_be_written_refuses_the_erasure(bench: Bench, tmp_path: Path) -> None:
    contact = person(bench)
    other = bench.another(erasure_log=str(tmp_path / "missing" / "erasures.log"))
    with pytest.raises(InvalidSettings, match="SNAPSHOTS_ERASURE_LOG"):
        Erasing(other).accept(contact)
    other.connections.close()
    assert bench.database.snapshotjobs.count_documents({}) == 0


def test_folder_that_is_missing_is_named_by_doctor_workers_and_api_at_their_start(
    bench: Bench, settings: Settings, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing" / "erasures.log")
    other = bench.another(erasure_log=missing)
    with pytest.raises(InvalidSettings, match="SNAPSHOTS_ERASURE_LOG"):
        restore(other.service)
    (fault,) = failures(other)
    assert f"SNAPSHOTS_ERASURE_LOG: {missing} cannot be written: create the folder" in fault
    other.connections.close()
    environment = {"SNAPSHOTS_MONGO_URL": settings.mongo_url, "SNAPSHOTS_REDIS_URL": settings.redis_url}
    environment |= {
        "SNAPSHOTS_ERASURE_LOG": missing,
        "SNAPSHOTS_ERASURE_KEY": "k" * 32,
        "SNAPSHOTS_JWT_SECRET": "x" * 40,
    }
    for name, arguments in (("api", ["--port", "0"]), ("celery", ["worker", "-P", "solo", "-c", "1"])):
        (ended,) = run_programs([Order("snapshots", [name, *arguments], environment)])
        assert (ended.code, "Traceback" in ended.output) == (2, False), ended.output
        assert "Error: SNAPSHOTS_ERASURE_LOG" in ended.output
        assert missing in ended.output


def test_doctor_names_another_key(bench: Bench) -> None:
    Erasing(bench).run(person(bench))
    other = bench.another(erasure_key=SecretStr("x" * 32), erasure_log=None)
    (fault,) = failures(other)
    assert "SNAPSHOTS_ERASURE_KEY" in fault
    other.connections.close()


def test_contact_under_a_hold_is_not_erased_until_it_ends(bench: Bench) -> None:
    contact = person(bench)
    holds, one = Holds(bench.service), (bench.organization, contact)
    now = bench.service.clock.now()
    holds.set(one, "case 17", now + timedelta(days=1))
    with pytest.raises(LegalHold) as refused:
        Erasing(bench).accept(contact)
    assert refused.value.details["reason"] == "case 17"
    assert bench.database.snapshoterasures.count_documents({}) == 0
    assert [each.contact for each in holds.list(bench.organization)] == [contact]
    holds.set(one, "case 17", now - timedelta(days=1))
    assert holds.list() == []
    assert Erasing(bench).run(contact).status == "completed"
    assert bench.database.snapshotholds.count_documents({}) == 0
    with pytest.raises(ContactErased):
        holds.set(one, "late", now + timedelta(days=1))
    with pytest.raises(NotFound):
        holds.lift(one)
