"""The documented Redis user, over TLS, behind Sentinels with TLS and a login: everything runs, the doctor included."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from support.certificates import Certificates
from support.contacts import Contact, contact_with
from support.http import SNAPSHOTS, api, client, token
from support.intake import listener_process, listeners
from support.programs import Order, run_programs
from support.redis_server import redis_server
from support.sentinels import NAME, sentinels
from support.stack import stack
from support.waiting import eventually
from worker.client import BrokerUnavailable, Sent, SnapshotClient
from worker.settings import Settings
from worker.startup.redis_permissions import acl_rules

_NOT_IN_REDIS_7_0 = ("+waitaof", "+client|setinfo")
ADMIN, USER, SENTINEL = "adm1n", "s3cret", "w4tch"


def requested(producer: SnapshotClient, contact: Contact) -> Sent:
    """Send a request. Raises AssertionError if the new primary has no replica yet and refuses writes."""
    try:
        return producer.request(contact.organization, contact.id)
    except BrokerUnavailable as error:
        raise AssertionError from error


@pytest.mark.acceptance
@pytest.mark.timeout(240)
def test_user_with_the_documented_rules_runs_everything_over_tls_and_through_a_failover(
    settings: Settings, tmp_path: Path
) -> None:
    binary = redis_server()
    if binary is None:
        pytest.skip("no redis-server with TLS is installed")
    (tmp_path / "certificates").mkdir()
    certificates = Certificates(tmp_path / "certificates")
    rules = [rule for rule in acl_rules() if rule not in _NOT_IN_REDIS_7_0]
    watching = {
        "binary": binary,
        "certificates": certificates,
        "password": ADMIN,
        "options": ("--requirepass", ADMIN, "--masterauth", ADMIN),
        "login": (f"sentinel auth-pass {NAME} {ADMIN}", f"requirepass {SENTINEL}"),
    }
    with ExitStack() as processes:
        servers = processes.enter_context(sentinels(tmp_path / "sentinels", **watching))
        for port in servers.ports:
            with servers.client(port) as admin:
                admin.execute_command("ACL", "SETUSER", "snapshots", "on", f">{USER}", *rules)
        options = f"?ssl_ca_certs={certificates.ca}&sentinel_password={SENTINEL}"
        url = servers.url(f"snapshots:{USER}@", options, "sentinels")
        own = settings.model_copy(update={"redis_url": url})
        running = processes.enter_context(stack(own, tmp_path, {"SWEEP_INTERVAL": "1s", "RUN_DEADLINE": "2s"}))
        processes.enter_context(listeners(listener_process(own, tmp_path / "listener.log")))
        base, _ = processes.enter_context(api(own, tmp_path, {"API_RATE_LIMIT": "100"}))
        producer = processes.enter_context(SnapshotClient(url))
        contact = contact_with(running.database, 3)
        http = processes.enter_context(client(base, token(contact.organization, "ADMIN")))
        for _ in range(2):
            sent = eventually(lambda: requested(producer, contact))
            assert producer.wait(sent, 60).completed
            assert http.post(SNAPSHOTS, json={"contactId": str(contact.id)}).status_code in {201, 202}
            primary = servers.primary()
            servers.fail_over()
            servers.wait_for_another(primary)
        environment = {
            "SNAPSHOTS_REDIS_URL": url,
            "SNAPSHOTS_MONGO_URL": own.mongo_url,
            "SNAPSHOTS_MONGO_DATABASE": own.mongo_database,
            "FLOWER_BASIC_AUTH": "operator:long-enough",
            "FLOWER_DB": str(tmp_path / "flower"),
        }
        doctor, status, flower = run_programs(
            [
                Order("snapshots", ["doctor", "--no-request"], environment),
                Order("snapshots", ["status"], environment),
                Order("celery", ["-A", "worker", "flower", "--port=0"], environment, "Connected to"),
            ]
        )
    assert "the ACL allows every command, key and channel" in doctor.output, doctor.output
    assert f"the Sentinels can fail over {NAME}" in doctor.output, doctor.output
    assert status.code == 0, status.output
    assert "Connected to sentinel://snapshots" in flower.output, flower.output
    for secret in (ADMIN, USER, SENTINEL):
        assert not [each for each in (doctor, status, flower) if secret in each.output]
