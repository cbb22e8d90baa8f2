"""Odd addresses of Redis: each process uses them correctly, or refuses them in one sentence at its start."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from support.certificates import Certificates
from support.programs import Order, run_programs
from support.recorder import recording
from support.redis_server import free_port, own_redis, redis_server, running_redis, valkey_server
from support.stack import stack
from worker.client import SnapshotClient
from worker.errors import BrokerUnavailable
from worker.settings import Settings

PASSWORD = "s3cret"

REFUSED = {
    "unix://run/redis.sock": "should have the absolute path of a socket",
    "sentinel://:s3cret@h:26379": "should have the name of the primary",
    "h:6379": "should begin with redis://",
    "redis://:s3cret@/0": "should have a host",
    "redis://:s3cret/word@h:6379/0": "percent-encode",
    "redis://:s3cret@h:99999/0": "should have a port",
    "redis://:s3cret@h/abc": "should have a database number",
    "redis://:s3cret@h1,h2/0": "should have one host",
    "redis://:s3cret@h?socket_timeout=5": "the unknown option socket_timeout",
    "redis://:s3cret@h?protocol=3": "the unknown option protocol",
    "redis://:s3cret@h?client_name=me": "the unknown option client_name",
    "redis://:s3cret@h?max_connections=5": "the unknown option max_connections",
    "redis://:s3cret@h?health_check_interval=5": "the unknown option health_check_interval",
    "redis://:s3cret@h/0?db=3": "one database number",
    "redis://:s3cret@h?ssl_cert_reqs=none": "needs rediss://",
    "rediss://:s3cret@h?ssl_cert_reqs=maybe": "which should be required or none",
    "rediss://:s3cret@h?ssl_ca_certs=/nowhere.pem": "which should be a file",
}
PROGRAMS = {
    "status": ("snapshots", ["status"]),
    "listener": ("snapshots", ["listen"]),
    "doctor": ("snapshots", ["doctor", "--no-request"]),
    "worker": ("celery", ["-A", "worker", "worker", "-P", "solo", "-c", "1"]),
    "beat": ("celery", ["-A", "worker", "beat"]),
    "inspect": ("celery", ["-A", "worker", "inspect", "ping"]),
    "flower": ("celery", ["-A", "worker", "flower", "--port=0"]),
    "liveness": ("liveness", ["listener"]),
}
WAITING = {"listener", "worker", "beat", "flower"}
"""Programs that wait for Redis until they are ended."""
WHOLE_TABLE = {"status", "worker"}
"""Programs that are run with every address; the others, which read the same settings, with every fourth."""
LOGIN = {"FLOWER_BASIC_AUTH": "operator:long-enough"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", PROGRAMS)
def test_address_that_cannot_be_used_is_refused_by_every_process_in_one_sentence(name: str, tmp_path: Path) -> None:
    program, arguments = PROGRAMS[name]
    more = ["-s", str(tmp_path / "schedule")] if name == "beat" else []
    cases = list(REFUSED.items())[:: 1 if name in WHOLE_TABLE else 4]
    orders = [Order(program, [*arguments, *more], {**LOGIN, "SNAPSHOTS_REDIS_URL": url}) for url, _ in cases]
    for (url, sentence), ended in zip(cases, run_programs(orders), strict=True):
        plain = " ".join(re.sub(r"[│\n]", " ", ended.output).split())  # the doctor's table wraps its lines
        assert ended.code != 0, url
        assert "SNAPSHOTS_REDIS_URL: " in plain, (url, plain)
        assert sentence in plain, (url, plain)
        assert "Traceback" not in plain, url
        assert PASSWORD not in plain, url


# --- a stranger's certificate ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(Path(tmp_path_factory.mktemp("certificates")))


def _order(name: str, folder: Path, url: str, settings: Settings, until: str) -> Order:
    program, arguments = PROGRAMS[name]
    more = ["-s", str(folder / "schedule")] if name == "beat" else []
    environment = {
        **LOGIN,
        "SNAPSHOTS_REDIS_URL": url,
        "FLOWER_DB": str(folder / "flower"),
        "SNAPSHOTS_MONGO_URL": settings.mongo_url,
        "SNAPSHOTS_MONGO_DATABASE": settings.mongo_database,
    }
    return Order(program, [*arguments, *more], environment, until if name in WAITING else "")


def test_stranger_with_a_certificate_of_its_own_is_sent_nothing_by_any_process(
    settings: Settings, certificates: Certificates, tmp_path: Path
) -> None:
    """Self-signed, expired, for another host: no process must send it the password."""
    with ExitStack() as recorders:
        orders, heard = [], {}
        for name in PROGRAMS:
            heard[name] = recorders.enter_context(recording(certificates.stranger, certificates.stranger_key))
            url = f"rediss://:{PASSWORD}@127.0.0.1:{heard[name].port}/0"
            orders.append(_order(name, tmp_path, url, settings, "certificate"))
        for name, ended in zip(PROGRAMS, run_programs(orders), strict=True):
            assert heard[name].connections > 0, (name, ended.output)
            assert heard[name].received == [], name
            assert PASSWORD not in ended.output, name


def test_client_tells_why_it_sends_nothing_to_a_stranger(certificates: Certificates) -> None:
    with recording(certificates.stranger, certificates.stranger_key) as recorder:
        url = f"rediss://:{PASSWORD}@127.0.0.1:{recorder.port}/0"
        with SnapshotClient(url) as client, pytest.raises(BrokerUnavailable, match="self-signed certificate"):
            client.request("6a1b2c3d4e5f60718293a4b5", "6a1b2c3d4e5f60718293a4b6")
        assert recorder.received == []


def test_recorder_would_see_the_password(certificates: Certificates) -> None:
    """The control: without verification the password is sent, and a warning is logged."""
    with recording(certificates.stranger, certificates.stranger_key) as recorder:
        url = f"rediss://:{PASSWORD}@127.0.0.1:{recorder.port}/0?ssl_cert_reqs=none"
        (ended,) = run_programs([Order("snapshots", ["events"], {"SNAPSHOTS_REDIS_URL": url})])
        assert PASSWORD.encode() in recorder.text
    assert "redis_not_verified" in ended.output


# --- a Unix socket --------------------------------------------------------------------------------------


def test_pipeline_runs_over_a_unix_socket_in_another_database(settings: Settings, tmp_path: Path) -> None:
    with TemporaryDirectory() as short, ExitStack() as processes:  # a socket's path has at most 107 bytes
        server = processes.enter_context(own_redis(valkey_server(), tmp_path, "--unixsocket", f"{short}/my.sock"))
        server.config_set("requirepass", PASSWORD)
        url = f"unix://:{PASSWORD}@{short}/my.sock?db=3"
        running = processes.enter_context(stack(settings.model_copy(update={"redis_url": url}), tmp_path))
        keys = running.bench.chunk(3)
        running.publish(keys)
        running.finished(keys)
        info: Any = running.redis.info("keyspace")
        assert set(info) == {"db3"}
        mongo = {"SNAPSHOTS_MONGO_URL": settings.mongo_url, "SNAPSHOTS_MONGO_DATABASE": settings.mongo_database}
        (ping,) = run_programs(
            [Order("celery", ["-A", "worker", "inspect", "ping"], {**mongo, "SNAPSHOTS_REDIS_URL": url})]
        )
        assert ping.code == 0, ping.output


# --- a Redis with TLS -----------------------------------------------------------------------------------


@pytest.fixture
def tls_url(certificates: Certificates, tmp_path: Path) -> Iterator[str]:
    """A Redis that has TLS alone, a password, and a certificate of the test's authority."""
    binary = redis_server()
    if binary is None:
        pytest.skip("no redis-server with TLS is installed")
    port = free_port()
    argv = [binary, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--save", "", "--databases", "4"]
    argv += ["--tls-cert-file", str(certificates.server), "--tls-key-file", str(certificates.server_key)]
    argv += ["--tls-ca-cert-file", str(certificates.ca), "--tls-auth-clients", "no", "--requirepass", PASSWORD]
    (tmp_path / "redis").mkdir()
    with running_redis(argv, tmp_path / "redis", port):
        yield f"rediss://:{PASSWORD}@127.0.0.1:{port}"


def test_pipeline_runs_over_verified_tls_in_another_database(
    settings: Settings, tls_url: str, certificates: Certificates, tmp_path: Path
) -> None:
    url = f"{tls_url}?db=3&ssl_ca_certs={certificates.ca}"
    with stack(settings.model_copy(update={"redis_url": url}), tmp_path) as running:
        keys = running.bench.chunk(3)
        running.publish(keys)
        running.finished(keys)
        assert {event["id"] for event in running.bench.events()} == {f"{key}.0" for key in keys}
        info: Any = running.redis.info("keyspace")
        assert set(info) == {"db3"}


def test_server_of_an_unknown_authority_is_refused_and_says_why(settings: Settings, tls_url: str) -> None:
    mongo = {"SNAPSHOTS_MONGO_URL": settings.mongo_url, "SNAPSHOTS_MONGO_DATABASE": settings.mongo_database}
    (status,) = run_programs([Order("snapshots", ["status"], {**mongo, "SNAPSHOTS_REDIS_URL": f"{tls_url}/0"})])
    assert status.code == 2
    assert "TLS: self-signed certificate in certificate chain" in status.output


def test_database_that_the_server_has_not_is_named(
    settings: Settings, tls_url: str, certificates: Certificates, tmp_path: Path
) -> None:
    url = f"{tls_url}/99?ssl_ca_certs={certificates.ca}"
    said = "no database with this number|DB index is out of range"
    orders = [_order(name, tmp_path, url, settings, said) for name in PROGRAMS]
    for name, ended in zip(PROGRAMS, run_programs(orders), strict=True):
        assert re.search(said, ended.output), (name, ended.output)
        assert "Traceback" not in ended.output, (name, ended.output)
