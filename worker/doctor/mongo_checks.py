"""Checks MongoDB's version, replica set and durability."""

from collections.abc import Iterator, Mapping
from typing import Any

import pymongo
from pymongo.errors import OperationFailure

from worker.doctor.findings import Finding, failure, ok, warning
from worker.startup import mongo_check
from worker.stores.connections import Connections, store_errors

_TRANSACTION_SECONDS = 10
_SECONDS = 4
_DISK_WARNING, _DISK_FAILURE = 0.95, 0.99
_UNAUTHORIZED = (13, 18)
Reply = dict[str, Any]


def check(connections: Connections) -> Iterator[Finding]:
    """Check MongoDB's version, replica set and parameters.

    Raises UnusableServer, StoreUnavailable, StoreConflict.
    """
    mongo_check.check(connections)
    with store_errors(), pymongo.timeout(_SECONDS):
        hello: Reply = connections.mongo.admin.command("hello")
        version: str = connections.mongo.server_info()["version"]
    yield ok(f"MongoDB {version}")
    if hello.get("msg") == "isdbgrid":
        yield ok("sharded cluster; its members are not checked")
        return
    yield from _disk(connections)
    yield from _members(_run(connections, "replSetGetStatus"), hello)
    yield from _journaled(_run(connections, "replSetGetConfig"))
    yield from _storage(_run(connections, "serverStatus"))
    yield _lifetime(_run(connections, {"getParameter": 1, "transactionLifetimeLimitSeconds": 1}))


def _run(connections: Connections, command: str | Reply) -> Reply:
    """Run an admin command. The reply is empty if this user may not run it."""
    with store_errors(), pymongo.timeout(_SECONDS):
        try:
            return dict(connections.mongo.admin.command(command))
        except OperationFailure as error:
            if error.code not in _UNAUTHORIZED:
                raise
            return {}


def _disk(connections: Connections) -> Iterator[Finding]:
    """Check the space on the primary's disk. https://www.mongodb.com/docs/manual/reference/command/dbStats/"""
    with store_errors(), pymongo.timeout(_SECONDS):
        stats: Reply = connections.database.command("dbStats")
    used, total = stats.get("fsUsedSize"), stats.get("fsTotalSize")
    if not used or not total:  # managed services may not report it
        return
    share = used / total
    message = f"MongoDB's disk is {share:.0%} full; {(total - used) / 2**30:,.1f} GB are free"
    if share > _DISK_WARNING:
        level = failure if share > _DISK_FAILURE else warning
        yield level(f"{message}.", "Enlarge the disk, or delete files. mongod exits when its disk is full.")
    else:
        yield ok(message)


def _members(status: Reply, hello: Reply) -> Iterator[Finding]:
    members = status.get("members", [])
    down = [str(member["name"]) for member in members if member.get("health") != 1]
    name = f"replica set {hello['setName']}"
    if down:
        yield warning(
            f"Members of the {name} cannot be reached: {', '.join(down)}.",
            "Start them. Writes need a majority of the members.",
        )
    else:
        yield ok(f"{name}, {len(members)} of {len(members)} members up" if members else name)


def _journaled(reply: Reply) -> Iterator[Finding]:
    """Check that all members journal. Our writes ask the primary for it; the configuration decides for the others.

    https://www.mongodb.com/docs/manual/reference/replica-configuration/#mongodb-rsconf-rsconf.writeConcernMajorityJournalDefault
    """
    if not reply:
        yield _not_allowed("replSetGetConfig", "that writeConcernMajorityJournalDefault is true")
    elif not reply["config"].get("writeConcernMajorityJournalDefault", True):
        yield failure(
            "writeConcernMajorityJournalDefault is false, so members confirm writes that are not on their disks yet.",
            "Set it to true with rs.reconfig().",
        )
    else:
        yield ok("majority writes are journaled")


def _storage(status: Reply) -> Iterator[Finding]:
    engine: Mapping[str, Any] = status.get("storageEngine", {})
    if engine and not engine.get("persistent", True):
        yield failure(f"The storage engine {engine['name']} does not write to disk.", "Use wiredTiger.")


def _lifetime(reply: Reply) -> Finding:
    if not reply:
        return _not_allowed("getParameter", "that transactionLifetimeLimitSeconds is 10")
    seconds = reply["transactionLifetimeLimitSeconds"]
    if seconds > _TRANSACTION_SECONDS:
        return warning(
            f"transactionLifetimeLimitSeconds is {seconds}. A killed worker's requests stay blocked for that long.",
            "Start mongod with --setParameter transactionLifetimeLimitSeconds=10.",
        )
    return ok(f"abandoned transactions end after {seconds} s")


def _not_allowed(command: str, condition: str) -> Finding:
    return warning(
        f"MongoDB's user may not run {command}.",
        f"Grant the user the role clusterMonitor, or check yourself {condition}.",
    )
