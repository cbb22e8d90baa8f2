"""Redis users of programs that only request snapshots or read events: their documented rules suffice, and no more."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from support.contacts import Contact, contact_with
from support.intake import listener_process, listeners
from support.redis_server import own_redis, valkey_server
from support.served import own_settings
from support.stack import stack
from support.waiting import eventually
from worker.client import SnapshotClient
from worker.local.embedded import Servers

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
USER = re.compile(r"ACL SETUSER (\w+) on >PASSWORD ((?:.|\n)*?)\n\n")
SEND = """
import os, sys
from celery import Celery

request = {"organizationId": sys.argv[1], "contactId": sys.argv[2]}
Celery(broker=os.environ["REDIS_URL"]).send_task("snapshots.request", args=[request], queue="snapshots")
"""


def documented_users() -> dict[str, list[str]]:
    """The rules of each documented user."""
    return {name: rules.split() for name, rules in USER.findall(OPERATIONS.read_text())}


@dataclass
class Site:
    """A running system, and the URL of each documented user of its Redis."""

    admin: Any
    url: str
    """The address for the administrator."""
    urls: dict[str, str]
    contact: Contact
    database: Any

    def denials(self) -> list[str]:
        return [f"{entry['username']}: {entry['reason']} {entry['object']}" for entry in self.admin.acl_log()]

    def snapshots(self) -> int:
        count: int = self.database.trainingsnapshots.count_documents({"organizationId": self.contact.organization})
        return count


@pytest.fixture(scope="module")
def site(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("users")
    with own_redis(valkey_server(), folder, "--appendonly", "yes") as server:
        admin: Any = server
        place = f"127.0.0.1:{admin.connection_pool.connection_kwargs['port']}/0"
        urls = {}
        for name, rules in documented_users().items():
            admin.execute_command("ACL", "SETUSER", name, "on", f">{name}", *rules)
            urls[name] = f"redis://{name}:{name}@{place}"
        settings = own_settings(servers).model_copy(update={"redis_url": f"redis://{place}"})
        listener = listener_process(settings, folder / "listener.log")
        with stack(settings, folder) as running, listeners(listener):
            yield Site(admin, settings.redis_url, urls, contact_with(running.database, 3), running.database)
            running.database.client.drop_database(settings.mongo_database)


@pytest.fixture(autouse=True)
def log(site: Site) -> None:
    """The log of refusals begins with the test."""
    site.admin.acl_log_reset()


def test_producer_requests_and_waits(site: Site) -> None:
    with SnapshotClient(site.urls["producer"], durable=True) as client:
        outcome = client.wait(client.request(site.contact.organization, site.contact.id), 40)
    assert outcome.snapshot_id is not None
    assert site.denials() == []


def test_celery_producer_requests(site: Site) -> None:
    before = site.snapshots()
    subprocess.run(
        [sys.executable, "-c", SEND, str(site.contact.organization), str(site.contact.id)],
        env={**os.environ, "REDIS_URL": site.urls["celery"]},
        check=True,
        timeout=60,
    )
    eventually(lambda: site.snapshots() == before + 1, 40)
    assert site.denials() == []


def test_consumer_reads_events(site: Site) -> None:
    with SnapshotClient(site.url) as client:
        client.wait(client.request(site.contact.organization, site.contact.id), 40)
    with SnapshotClient(site.urls["consumer"]) as client:
        assert next(iter(client.events("analytics", "one", timeout=20))).type == "training.snapshot.completed"
    assert site.denials() == []


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("producer", "XRANGE snapshots:requests - +"),
        ("producer", "XADD snapshots:events * type training.snapshot.completed"),
        ("producer", "XTRIM snapshots:requests MAXLEN 0"),
        ("producer", "DEL snapshots:requests"),
        ("producer", "LPUSH snapshots x"),
        ("celery", "LRANGE snapshots 0 -1"),
        ("celery", "RPOP snapshots"),
        ("celery", "LPUSH snapshots.maintenance x"),
        ("celery", "HGETALL unacked"),
        ("consumer", "XADD snapshots:events * type training.snapshot.completed"),
        ("consumer", "XDEL snapshots:events 1-1"),
        ("consumer", "XADD snapshots:requests * type snapshot.requested"),
        ("consumer", "FLUSHALL"),
    ],
)
def test_user_has_no_other_rights(site: Site, user: str, command: str) -> None:
    with redis.Redis.from_url(site.urls[user]) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())
