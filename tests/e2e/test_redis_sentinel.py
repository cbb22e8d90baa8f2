"""Redis behind Sentinels: every process finds the primary, and a failover under load loses no outcome."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from kombu.exceptions import OperationalError
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.contacts import contact_with
from support.http import SNAPSHOTS, api, client, token
from support.intake import listener_process, listeners
from support.programs import Order, run_programs
from support.sentinels import Sentinels, sentinels
from support.stack import Running, stack
from support.waiting import eventually
from worker.api.readiness import RedisProbe
from worker.client import SnapshotClient
from worker.errors import BrokerUnavailable, UnusableServer
from worker.settings import Settings
from worker.startup import redis_check

EACH = 40
"""Requests by each of the three ways."""
QUICKLY = {"SWEEP_INTERVAL": "1s", "RUN_DEADLINE": "2s"}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Sentinels]:
    with sentinels(tmp_path / "sentinels") as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    """Servers of which no test takes one away. The Sentinel that every client asks first is dead."""
    with sentinels(tmp_path_factory.mktemp("shared") / "sentinels") as made:
        made.kill(made.sentinel_ports[0])
        yield made


@pytest.fixture
def own(watched: Sentinels, settings: Settings) -> Settings:
    return settings.model_copy(update={"redis_url": watched.url()})


class Producer:
    """Asks for snapshots of one contact in three ways, each request with an id of its own."""

    def __init__(self, running: Running, base: str) -> None:
        self._running = running
        self._contact = contact_with(running.database, 2)
        self._http = client(base, token(self._contact.organization, "ADMIN"))
        self._client = SnapshotClient(running.settings.redis_url)

    def send(self, way: str, number: int) -> None:
        """Send a request. It may be lost if Redis is, unless HTTP accepted it."""
        organization, contact, request_id = self._contact.organization, self._contact.id, f"{way}-{number}"
        if way == "http":
            headers = {"Idempotency-Key": request_id, "Prefer": "wait=0"}
            sent = self._http.post(SNAPSHOTS, json={"contactId": str(contact)}, headers=headers)
            assert sent.status_code in {200, 201, 202}, sent.text
        elif way == "stream":
            with contextlib.suppress(BrokerUnavailable):
                self._client.request(organization, contact, request_id=request_id)
        else:
            request = {"organizationId": str(organization), "contactId": str(contact), "requestId": request_id}
            with contextlib.suppress(OperationalError, redis.RedisError, OSError):
                self._running.app.send_task(
                    "snapshots.request", args=[request], queue="snapshots", ignore_result=True, retry=False
                )

    def send_all(self, way: str) -> None:
        for number in range(EACH):
            self.send(way, number)
            time.sleep(0.1)

    def close(self) -> None:
        self._http.close()
        self._client.close()


def accepted(running: Running) -> dict[str, Any]:
    return {entry["requestId"]: entry for entry in running.database.snapshotrequests.find()}


def emitted(running: Running) -> set[str]:
    with contextlib.suppress(BrokerUnavailable):
        return {event["id"] for event in running.bench.events()}
    return set()


@contextlib.contextmanager
def load(producer: Producer) -> Iterator[None]:
    """Send requests in all ways at once, during the block and until all are sent."""
    threads = [threading.Thread(target=producer.send_all, args=(way,)) for way in ("http", "stream", "celery")]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def fail(watched: Sentinels, fault: str) -> None:
    primary = watched.primary()
    if fault == "kill":
        watched.kill(primary)
        watched.wait_for_another(primary)
        watched.start_redis(primary)  # as a primary with old data, until the Sentinels make it a replica
    elif fault == "failover":
        watched.fail_over()
        watched.wait_for_another(primary)
    else:
        with watched.paused(primary):
            watched.wait_for_another(primary)
            time.sleep(2)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "fault", ["kill", *(pytest.param(each, marks=pytest.mark.acceptance) for each in ("failover", "pause"))]
)
def test_failover_in_the_middle_of_requests_loses_no_outcome(
    fault: str, watched: Sentinels, own: Settings, tmp_path: Path
) -> None:
    with ExitStack() as processes:
        running = processes.enter_context(stack(own, tmp_path, QUICKLY))
        listener = listener_process(own, tmp_path / "listener.log", {"SNAPSHOTS_LISTENER_IDLE": "1s"})
        processes.enter_context(listeners(listener))
        base, _ = processes.enter_context(api(own, tmp_path, {"API_RATE_LIMIT": "10000"}))
        producer = Producer(running, base)
        processes.callback(producer.close)
        with load(producer):
            eventually(lambda: len(accepted(running)) >= EACH // 2)
            fail(watched, fault)
        wanted = {f"{way}-{number}" for way in ("http", "stream", "celery") for number in range(EACH)}

        def check() -> bool:
            entries = accepted(running)
            for missing in wanted - set(entries):  # a producer repeats what has no outcome
                way, _, number = missing.partition("-")
                assert way != "http", missing
                producer.send(way, int(number))
            assert set(entries) == wanted
            assert {entry["status"] for entry in entries.values()} == {"completed"}
            assert {f"{entry['_id']}.0" for entry in entries.values()} <= emitted(running)
            return True

        eventually(check, 60, 1.0)
        assert running.database.trainingsnapshots.count_documents({}) == len(wanted)
        assert httpx.get(f"{base}/readyz").json()["status"] == "ready"


def refuses_writes(server: "redis.Redis") -> bool:
    try:
        server.set("x", "1")
    except redis.ResponseError as error:
        return str(error).startswith(("NOREPLICAS", "READONLY"))
    return False


def names(watched: Sentinels, sentinel: int) -> int:
    """The port of the primary in the list that redis-py reads, which a Sentinel changes a second after the failover."""
    with watched.client(sentinel, decode_responses=True) as client:
        found: Any = client.sentinel_masters()
        return int(found[watched.name]["port"])


def test_clients_leave_a_former_primary_that_refuses_writes(watched: Sentinels, own: Settings) -> None:
    """The Sentinels make it a replica, which closes its connections, only some ten seconds after the failover."""

    def fail_over() -> None:
        former = watched.primary()
        watched.fail_over()
        new = watched.wait_for_another(former)
        with watched.client(former) as server:
            eventually(lambda: refuses_writes(server))
        with watched.client(new) as server:
            eventually(lambda: not refuses_writes(server))
        eventually(lambda: {names(watched, each) for each in watched.sentinel_ports} == {new})

    async def write_before_and_after() -> None:
        with own.redis.client(retry=Retry(NoBackoff(), 1)) as blocking:
            client = own.redis.async_client(retry=AsyncRetry(NoBackoff(), 1))
            await client.set("x", "1")
            blocking.set("x", "1")
            fail_over()
            await client.set("x", "2")
            blocking.set("x", "2")
            await client.aclose()
            for each in client.connection_pool.sentinel_manager.sentinels:  # type: ignore[attr-defined]
                await each.aclose()

    asyncio.run(write_before_and_after())


@pytest.mark.acceptance
def test_every_program_finds_the_primary(shared: Sentinels, settings: Settings, tmp_path: Path) -> None:
    own = settings.model_copy(update={"redis_url": shared.url()})
    environment = {
        "SNAPSHOTS_REDIS_URL": own.redis_url,
        "SNAPSHOTS_MONGO_URL": own.mongo_url,
        "SNAPSHOTS_MONGO_DATABASE": own.mongo_database,
        "FLOWER_BASIC_AUTH": "operator:long-enough",
        "FLOWER_DB": str(tmp_path / "flower"),
    }
    listener = listener_process(own, tmp_path / "listener.log")
    with stack(own, tmp_path), listeners(listener):
        orders = [
            Order("snapshots", ["doctor", "--no-request"], environment),
            Order("snapshots", ["status"], environment),
            Order("celery", ["-A", "worker", "inspect", "active"], environment),
            Order("liveness", ["listener"], environment),
            Order("celery", ["-A", "worker", "flower", "--port=0"], environment, "Connected to"),
        ]
        doctor, *others, flower = run_programs(orders)
    assert "1 of 3 Sentinels do not answer" in " ".join(doctor.output.replace("│", " ").split()), doctor.output
    for program in others:
        assert program.code == 0, program.output
    assert "Connected to sentinel://" in flower.output, flower.output


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("sentinel://127.0.0.1:{sentinel}/other/0", "watches no primary with the name other; it watches: mymaster"),
        ("sentinel://127.0.0.1:{redis}/mymaster/0", "is not a Sentinel but a Redis server"),
        ("sentinel://127.0.0.1:1/mymaster/0", "None of the Sentinels of SNAPSHOTS_REDIS_URL answers"),
        ("redis://127.0.0.1:{sentinel}/0", "it is a Sentinel: use sentinel://"),
    ],
)
def test_wrong_sentinels_are_named_with_the_reason(url: str, text: str, shared: Sentinels, settings: Settings) -> None:
    address = url.format(sentinel=shared.sentinel_ports[1], redis=shared.ports[0])
    with pytest.raises((UnusableServer, BrokerUnavailable), match=text):
        redis_check.check(settings.model_copy(update={"redis_url": address}))


def test_readiness_waits_for_a_silent_sentinel_once(shared: Sentinels, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections, as a frozen host does
        hosts = [f"127.0.0.1:{port}" for port in (silent.getsockname()[1], *shared.sentinel_ports[1:])]
        probe = RedisProbe(settings.model_copy(update={"redis_url": f"sentinel://{','.join(hosts)}/mymaster/0"}))
        took = []
        for _ in range(2):
            began = time.monotonic()
            assert probe()[0]
            took.append(time.monotonic() - began)
    assert took[0] >= 1.0 > took[1], took
