"""MongoDB with TLS: a user who logs in with a client certificate, and nothing else, can run everything."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.certificates import Certificates
from support.ledger import bench_on
from support.mongo_server import secure_mongod
from support.sweeping import events_of
from worker.doctor import mongo_checks
from worker.doctor.findings import Level
from worker.errors import StoreUnavailable, UnusableServer
from worker.runs.run import Run
from worker.settings import Settings
from worker.startup import mongo_check
from worker.stores.connections import Connections


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(Path(tmp_path_factory.mktemp("certificates")))


@pytest.fixture(scope="module")
def address(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A replica set of one member that requires TLS and logins, with a user for the client certificate."""
    with secure_mongod(Path(tmp_path_factory.mktemp("mongod")), certificates) as host:
        yield host


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


@pytest.mark.parametrize(("user", "missing"), [("reader", "write"), ("writer", "create indexes")])
def test_user_who_lacks_a_right_is_refused(user: str, missing: str, own: Settings, address: str) -> None:
    options = own.mongo_url.partition("?")[2].replace("&authMechanism=MONGODB-X509", "")
    limited = own.model_copy(update={"mongo_url": f"mongodb://{user}:{user}@{address}/?authSource=admin&{options}"})
    refused = pytest.raises(UnusableServer, match=f"does not allow this user to {missing}: grant it readWrite")
    with closing(Connections(limited)) as connections, refused:
        mongo_check.check(connections)


def test_server_of_an_unknown_authority_is_refused_and_says_why(own: Settings, certificates: Certificates) -> None:
    url = own.mongo_url.replace(str(certificates.ca), str(certificates.stranger))
    wrong = own.model_copy(update={"mongo_url": url})
    refused = pytest.raises((UnusableServer, StoreUnavailable), match="certificate")
    with closing(Connections(wrong)) as connections, refused:
        mongo_check.check(connections)
