"""MongoDB: version, replica set, durability."""

from collections.abc import Iterator, Mapping
from typing import Any

import pymongo
from pymongo.errors import OperationFailure

from worker.doctor.findings import Finding, failure, ok, warning
from worker.stores.connections import Connections, store_errors

_OLDEST = (5, 0)
"""Reads at a snapshot outside of transactions, which `snapshots status` needs.
https://www.mongodb.com/docs/manual/reference/read-concern-snapshot/"""
_LIFETIME = 10
_SECONDS = 4
_DENIED = (13, 18)
Said = dict[str, Any]


def check(connections: Connections) -> Iterator[Finding]:
    """Raises StoreUnavailable, StoreConflict."""
    with store_errors(), pymongo.timeout(_SECONDS):
        hello: Said = connections.mongo.admin.command("hello")
        version: str = connections.mongo.server_info()["version"]
    if tuple(int(each) for each in version.split(".")[:2]) < _OLDEST:
        yield failure(f"MongoDB {version} is too old.", "Use MongoDB 6.0 or newer.")
    else:
        yield ok(f"MongoDB {version}")
    if hello.get("msg") == "isdbgrid":
        yield ok("a sharded cluster; its members are not looked at")
        return
    if not hello.get("setName"):
        yield failure(
            "This is no replica set: it has no transactions.",
            "Start mongod with --replSet rs0 and run rs.initiate(); one member will do.",
        )
        return
    yield from _members(_asked(connections, "replSetGetStatus"), hello)
    yield from _journaled(_asked(connections, "replSetGetConfig"))
    yield from _storage(_asked(connections, "serverStatus"))
    yield _lifetime(_asked(connections, {"getParameter": 1, "transactionLifetimeLimitSeconds": 1}))


def _asked(connections: Connections, command: str | Said) -> Said:
    """Empty where this user may not ask it."""
    with store_errors(), pymongo.timeout(_SECONDS):
        try:
            return dict(connections.mongo.admin.command(command))
        except OperationFailure as error:
            if error.code not in _DENIED:
                raise
            return {}


def _members(status: Said, hello: Said) -> Iterator[Finding]:
    members = status.get("members", [])
    down = [str(each["name"]) for each in members if each.get("health") != 1]
    said = f"replica set {hello['setName']}"
    if down:
        yield warning(f"{said}: {', '.join(down)} cannot be reached.", "Start it; a majority must be there to write.")
    else:
        yield ok(f"{said}, {len(members)} of {len(members)} members up" if members else said)


def _journaled(answer: Said) -> Iterator[Finding]:
    """Our writes ask for the journal themselves; that of the other members is the replica set's to say.

    https://www.mongodb.com/docs/manual/reference/replica-configuration/#mongodb-rsconf-rsconf.writeConcernMajorityJournalDefault
    """
    if not answer:
        yield _not_allowed("replSetGetConfig", "that writeConcernMajorityJournalDefault is true")
    elif not answer["config"].get("writeConcernMajorityJournalDefault", True):
        yield failure(
            "writeConcernMajorityJournalDefault is false: members confirm what is not on their disks.",
            "Set it to true by rs.reconfig().",
        )
    else:
        yield ok("majority writes are journaled")


def _storage(status: Said) -> Iterator[Finding]:
    engine: Mapping[str, Any] = status.get("storageEngine", {})
    if engine and not engine.get("persistent", True):
        yield failure(f"The storage engine {engine['name']} keeps nothing on disk.", "Use wiredTiger.")


def _lifetime(answer: Said) -> Finding:
    if not answer:
        return _not_allowed("getParameter", "that transactionLifetimeLimitSeconds is 10")
    seconds = answer["transactionLifetimeLimitSeconds"]
    if seconds > _LIFETIME:
        return warning(
            f"transactionLifetimeLimitSeconds is {seconds}: a killed worker's requests are held so long.",
            "Start mongod with --setParameter transactionLifetimeLimitSeconds=10.",
        )
    return ok(f"transactions end after {seconds} s")


def _not_allowed(command: str, wanted: str) -> Finding:
    return warning(f"{command} is not allowed to this user.", f"See to it {wanted}; the role clusterMonitor may look.")
