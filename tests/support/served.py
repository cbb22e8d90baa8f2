"""An API process with a worker, and clients of the API."""

import os
import secrets
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import redis
from bson import ObjectId
from pymongo.database import Database

from support.contacts import Contact
from support.http import SNAPSHOTS, client, token
from support.stack import Running
from worker.local.embedded import Servers
from worker.local.processes import Child
from worker.settings import Settings, load


@dataclass
class Served:
    """An API process, its worker, and a contact with conversations of 3, 2 and 0 messages."""

    url: str
    process: Child
    running: Running
    contact: Contact
    exports: str = ""
    """The folder of the exports."""
    clients: dict[str, httpx.Client] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    """A test's threads share one client: each client has a user of its own."""

    @property
    def settings(self) -> Settings:
        return self.running.settings

    @property
    def database(self) -> Database[dict[str, Any]]:
        return self.running.database

    @property
    def organization(self) -> ObjectId:
        return self.contact.organization

    def as_(self, role: str, organization: ObjectId | None = None) -> httpx.Client:
        """A client with a token of this role and organization, by default the contact's."""
        of = organization or self.organization
        with self._lock:
            if f"{role} {of}" not in self.clients:
                self.clients[f"{role} {of}"] = client(self.url, token(of, role))
            return self.clients[f"{role} {of}"]

    @property
    def http(self) -> httpx.Client:
        return self.as_("ADMIN")

    def create(self, **body: Any) -> dict[str, Any]:
        """Create a snapshot of the contact, and return it as POST does."""
        answer = self.http.post(SNAPSHOTS, json={"contactId": str(self.contact.id), **body})
        assert answer.status_code == 201, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data


def own_settings(servers: Servers, *, apart: bool = False) -> Settings:
    """Settings with a new database and an empty Redis; `apart`: one that no other test of this process flushes."""
    number = int(apart)
    if servers.valkey is None:
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        number = 8 + (worker + 4 * apart) % 8
    url = urlsplit(servers.redis_url)._replace(path=f"/{number}").geturl()
    with redis.Redis.from_url(url) as connection:
        connection.flushdb()
    name = f"test_{secrets.token_hex(6)}"
    return load(redis_url=url, mongo_url=servers.mongo_url, mongo_database=name)
