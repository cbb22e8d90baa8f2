"""`snapshots doctor` on a sound and on a broken system. Its test request leaves nothing behind."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from bson import ObjectId

from support.commands import CHECKOUT, COMMAND, Ended, environment, run
from support.doctor import configured, everything, faults
from support.ledger import Bench
from support.served import own_settings
from support.stack import Running, stack
from support.waiting import eventually
from worker.doctor import (
    process_checks,
    settings_checks,
)
from worker.doctor.examination import examine
from worker.doctor.findings import Level
from worker.doctor.probe import Probe
from worker.domain.ledger_entry import DOCTORS_ORGANIZATION
from worker.local.embedded import Servers
from worker.local.processes import Child
from worker.settings import Settings


def diagnose(settings: Settings, *arguments: str, clock: int | None = None, **env: str) -> Ended:
    """What the doctor finds; `clock`: by how many seconds that of its host is ahead."""
    own = environment(settings, SNAPSHOTS_JWT_SECRET="s" * 40, **env)
    if clock is None:
        return run(own, "doctor", "--json", *arguments, timeout=90)
    wrong = f"from chaos.clocks import shift; shift({clock}); from worker.cli import main; main(prog_name='snapshots')"
    ended = subprocess.run(
        [sys.executable, "-c", wrong, "doctor", "--json", *arguments],
        env=own | {"PYTHONPATH": str(CHECKOUT / "tests")},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def problems(ended: Ended, check: str, level: str = "failure") -> str:
    found = [each for each in ended.json["findings"] if (each["check"], each["level"]) == (check, level)]
    assert all(each["advice"] for each in found)
    return " ".join(f"{each['message']} {each['advice']}" for each in found)


@pytest.mark.parametrize(("seconds", "level"), [(90, "failure"), (-5, "warning")])
def test_host_whose_clock_is_wrong_is_problems(settings: Settings, seconds: int, level: str) -> None:
    ended = diagnose(settings, "--no-request", clock=seconds)
    (found,) = [each for each in ended.json["findings"] if each["check"] == "clocks" and each["level"] != "ok"]
    assert found["level"] == level
    assert "this host" in found["message"]
    assert ("ahead of" if seconds > 0 else "behind") in found["message"]
    assert "NTP" in found["advice"]


def test_invalid_settings_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAPSHOTS_CHUNK_SIZE", "many")
    (fault,) = examine(send=True, patience=1).checks[0].findings
    assert fault.level is Level.FAILURE
    assert "SNAPSHOTS_CHUNK_SIZE" in fault.message
    monkeypatch.setenv("SNAPSHOTS_CHUNK_SIZE", "100")
    settings, (tokens, _) = settings_checks.read()
    assert settings is not None
    assert tokens.level is Level.OK
    assert "verifies tokens" in tokens.message


def test_servers_that_are_away_are_failures_and_no_password_is_shown(settings: Settings) -> None:
    nowhere = settings.model_copy(
        update={
            "redis_url": "redis://:s3cret@127.0.0.1:1/0",
            "mongo_url": "mongodb://u:s3cret@127.0.0.1:1/?replicaSet=x",
        }
    )
    ended = diagnose(nowhere)
    assert ended.code == 1
    assert "cannot be reached" in problems(ended, "mongo")
    assert "SNAPSHOTS_REDIS_URL" in problems(ended, "redis")
    assert "No request was sent" in problems(ended, "request")
    assert "s3cret" not in ended.stdout + ended.stderr


@pytest.mark.usefixtures("indexed")
def test_without_workers_the_request_is_removed_again(bench: Bench) -> None:
    before = everything(bench)
    ended = diagnose(bench.settings, "--wait", "0.5")
    assert ended.code == 1
    assert "No worker that consumes the queue snapshots has renewed its heartbeat within 30 s" in problems(
        ended, "workers"
    )
    assert "has no outcome" in problems(ended, "request")
    assert everything(bench) == before


@pytest.mark.usefixtures("indexed")
def test_next_doctor_removes_what_a_killed_one_left(bench: Bench) -> None:
    before = everything(bench)
    old = ObjectId(f"{int(bench.ago(hours=1).timestamp()):08x}{os.urandom(8).hex()}")
    contact = ObjectId()
    ids = {"organizationId": DOCTORS_ORGANIZATION, "contactId": contact}
    bench.database.conversations.insert_one({"_id": old, **ids})
    bench.database.contacts.insert_one({"_id": contact, "organizationId": DOCTORS_ORGANIZATION})
    bench.database.messages.insert_one({**ids, "conversationId": old})
    stripped = {"status": "completed", "round": 0, "finishedAt": bench.ago(days=100)}  # by retention
    own = {"_id": old, "organizationId": DOCTORS_ORGANIZATION, "requestId": "doctor-1"}
    bench.database.snapshotrequests.insert_one(own | stripped)
    list(Probe(bench.service, 0.1)())
    assert everything(bench) == before


@pytest.fixture(scope="module")
def running(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A worker, beat and a listener."""
    folder = tmp_path_factory.mktemp("doctor")
    settings = own_settings(servers)
    with stack(settings, folder) as made:
        listener = Child("listener", [*COMMAND, "listen"], environment(settings, SNAPSHOTS_LOG_FORMAT="json"))
        listener.log = folder / "listener.log"
        listener.ready = lambda: '"listening"' in listener.output()
        listener.start()
        try:
            listener.wait_until_ready(30)
            eventually(lambda: not faults(process_checks.check_beat, made.bench), 60)
            yield made
        finally:
            listener.kill()
            made.database.client.drop_database(settings.mongo_database)


def test_sound_system_has_no_failure_and_each_step_its_time(running: Running) -> None:
    before = everything(running.bench)
    ended = diagnose(running.settings)
    assert (ended.code, [each for each in ended.json["findings"] if each["level"] == "failure"]) == (0, [])
    (sent,) = [each["message"] for each in ended.json["findings"] if each["check"] == "request"]
    assert "from the intake stream to its event" in sent
    steps = ["conversation stored", "sent", "accepted", "decided", "event read", "snapshot read", "all removed"]
    assert list(ended.json["steps"]) == steps
    assert all(0 <= each < 30 for each in ended.json["steps"].values())
    assert everything(running.bench) == before


@pytest.mark.usefixtures("changeable_redis")
def test_on_a_terminal_each_problem_is_followed_by_its_advice(running: Running) -> None:
    with configured(running.bench, "maxmemory-policy", "allkeys-lru"):
        ended = run(environment(running.settings), "doctor", "--no-request")
    assert ended.code == 1
    assert "→ Run CONFIG SET maxmemory-policy noeviction" in ended.stdout
    assert "failures: 1" in ended.stdout
