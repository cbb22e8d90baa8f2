"""Checks that MongoDB can be used: reachable, a replica set with a primary, new enough, and writable for this user."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pymongo
from pymongo import ReadPreference
from pymongo.errors import ConfigurationError, OperationFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from worker.errors import SnapshotError, StoreUnavailable, UnusableServer
from worker.stores.connections import Connections
from worker.stores.mongo_errors import (
    AUTHENTICATION_FAILED,
    DNS_SILENT,
    MECHANISM_UNAVAILABLE,
    NO_TRANSACTIONS,
    NOT_MONGO,
    UNAUTHORIZED,
    UNKNOWN_HOST,
    VARIABLE,
    is_dns,
    reason_of,
    rejection_of,
)

_FIRST_SECONDS, _SECONDS = 0.5, 1.5
"""Time limits of the two attempts. After the first one, only servers that have answered but cannot be used are
reported."""
_DIRECT_MS = 800
"""Time limit of asking one member what it is, after no primary was found."""
_OLDEST_WIRE_VERSION = 17
"""MongoDB 6.0, the oldest version that is tested."""
_MEMBER = re.compile(r"\[?[\w.:-]+\]?:\d+: ")
_OF_ENTRIES = ("organizationId", "status")
"""Fields that every entry of the ledger has."""
_ACTIONS = {"insert": "write", "update": "write", "remove": "delete", "createIndex": "create indexes"}
Reply = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why one server cannot be used. `lasting`: waiting will not help."""

    text: str
    lasting: bool = False


def check(connections: Connections) -> None:
    """Check MongoDB within about 3 s. Raises UnusableServer if waiting will not help, otherwise StoreUnavailable."""
    try:
        _check_within(_FIRST_SECONDS, connections)
    except PyMongoError as error:
        if found := diagnose(connections, error, certain=error.timeout):
            raise found from error
    else:
        return
    try:
        _check_within(_SECONDS, connections)
    except PyMongoError as error:
        if error.timeout and connections.mongo.topology_description.has_writable_server():
            return  # the server is up but slow; the command itself then waits as long as it is allowed to
        raise diagnose(connections, error) or error from error


def _check_within(seconds: float, connections: Connections) -> None:
    """Check MongoDB. Raises PyMongoError if there is no answer in time, UnusableServer, StoreUnavailable."""
    try:
        with pymongo.timeout(seconds):
            hello = connections.mongo.admin.command("hello", read_preference=ReadPreference.PRIMARY)
            fault = (
                fault_of(hello, _wanted_set(connections))
                or _not_primary(hello, connections)
                or _other_spelling(connections)
                or _missing_right(connections)
            )
    except OperationFailure as error:
        if error.timeout:
            raise
        raise _rejected(connections, error) from error
    if fault:
        raise _error(connections, [f"{_address(connections)} {fault.text}"], lasting=fault.lasting)


def fault_of(hello: Reply, wanted_set: str | None) -> Fault | None:
    """Return why a server with this reply to `hello` cannot be used, or None. A missing primary is not a fault here."""
    if hello.get("maxWireVersion", 0) < _OLDEST_WIRE_VERSION:
        return Fault("is too old: upgrade to MongoDB 6.0 or newer", lasting=True)
    if hello.get("msg") == "isdbgrid":
        return None
    if hello.get("isreplicaset"):
        return Fault("has a replica set that is not initiated: run rs.initiate() once")
    name = hello.get("setName")
    if name is None:
        return Fault(NO_TRANSACTIONS, lasting=True)
    if wanted_set and name != wanted_set:
        return Fault(
            f"belongs to the replica set {name}: set replicaSet={name}, or list a member of {wanted_set}",
            lasting=True,
        )
    return None


def _wanted_set(connections: Connections) -> str | None:
    return connections.mongo.options.replica_set_name


def _not_primary(hello: Reply, connections: Connections) -> Fault | None:
    """A direct connection finds no primary. The member may become it, as the only one of a set does at its start."""
    if not connections.mongo.options.direct_connection or hello.get("isWritablePrimary"):
        return None
    return Fault("is not the primary, and directConnection=true keeps from finding it: remove it from the URL")


def _other_spelling(connections: Connections) -> Fault | None:
    """MongoDB refuses to create a database whose name differs from another's only by its case."""
    name = connections.settings.mongo_database
    alike = {"name": {"$regex": f"^{re.escape(name)}$", "$options": "i"}}
    names = {each["name"] for each in connections.mongo.list_databases(filter=alike, nameOnly=True)}
    if not names or name in names:
        return None
    return Fault(f"has the database {names.pop()}, which differs from {name} in case only", lasting=True)


def _missing_right(connections: Connections) -> Fault | None:
    """Check that the ledger is ours, and that this user may write to it and index it.

    The role readWrite allows that, and all the rest.
    """
    settings = connections.settings
    collection = connections.database[settings.requests_collection]
    # Without a login, `hello` and `connectionStatus` are allowed, and this is not.
    entry = collection.find_one({}, dict.fromkeys(_OF_ENTRIES, 1))
    if entry is not None and not all(name in entry for name in _OF_ENTRIES):
        text = f"has documents of another program in the collection {settings.requests_collection}"
        return Fault(f"{text}: choose another name (SNAPSHOTS_REQUESTS_COLLECTION)", lasting=True)
    info = connections.mongo.admin.command({"connectionStatus": 1, "showPrivileges": True})["authInfo"]
    privileges = info.get("authenticatedUserPrivileges")
    if not info.get("authenticatedUsers") or not privileges:
        return None
    allowed = {
        action
        for each in privileges
        if _covers(each.get("resource", {}), settings.mongo_database, settings.requests_collection)
        for action in each.get("actions", ())
    }
    missing = next((what for action, what in _ACTIONS.items() if action not in allowed), None)
    if missing is None:
        return None
    return Fault(f"does not allow this user to {missing}: grant it readWrite on the database", lasting=True)


def _covers(resource: Reply, database: str, collection: str) -> bool:
    named = resource.get("db") in {"", database} and resource.get("collection") in {"", collection}
    return bool(resource.get("anyResource") or named)


# --- when there is no primary ---------------------------------------------------------------------------


def diagnose(connections: Connections, error: PyMongoError, *, certain: bool = False) -> SnapshotError | None:
    """Ask each server about its state, to explain why no primary was found.

    `certain`: return an error only if the reason is known for sure and will not pass while this process starts.
    """
    if is_dns(error):
        return _error(connections, [reason_of(error)])
    if isinstance(error, ConfigurationError):
        return _error(connections, [reason_of(error)], lasting=True)
    faults = list(_faults(connections))
    reason = reason_of(error)
    if certain and len(faults) < len(_servers(connections)) and not _will_stay(reason, connections):
        return None
    if any(fault.lasting for _, fault in faults):
        faults = [each for each in faults if each[1].lasting]
        return _error(connections, [f"{address} {fault.text}" for address, fault in faults], lasting=True)
    if faults:
        return _error(connections, [f"{address} {fault.text}" for address, fault in faults])
    if not any(_shown(host, port) in reason for host, port in _servers(connections)):
        reason = _of_member(reason, connections) or f"{_address(connections)}: {reason}"
    return _error(connections, [reason], lasting="TLS: " in reason)


def _of_member(reason: str, connections: Connections) -> str | None:
    """Explain an error of a server that the URL does not name, such as a container that only containers know.

    PyMongo connects to the members by the names in the configuration of the replica set, not by the URL's.
    """
    if not _MEMBER.match(reason):
        return None
    advice = "make that name reachable from here or, for a set of one member, add directConnection=true to the URL"
    return f"the replica set of {_address(connections)} names the member {reason} ({advice})"


def _will_stay(reason: str, connections: Connections) -> bool:
    """Return whether a second attempt would fail as well: TLS fails, or the URL names no MongoDB server at all."""
    named = reason.count(UNKNOWN_HOST) - reason.count(DNS_SILENT) + reason.count(NOT_MONGO)
    return "TLS: " in reason or named >= len(_all_servers(connections))


def _faults(connections: Connections) -> Iterator[tuple[str, Fault]]:
    """Return the faults of the servers that answer. PyMongo forgets a server that does not belong to the set."""
    tls = {name: value for name, value in _options(connections).items() if name.lower().startswith("tls")}
    known = connections.mongo.topology_description.server_descriptions()
    for host, port in _servers(connections):
        described = known.get((host, port))
        if described and not described.is_server_type_known:
            continue  # it does not answer; PyMongo's error says why
        try:
            with pymongo.MongoClient[dict[str, Any]](
                host,
                port,
                directConnection=True,
                serverSelectionTimeoutMS=_DIRECT_MS,
                connectTimeoutMS=_DIRECT_MS,
                **tls,
            ) as client:
                hello = client.admin.command("hello")
        except PyMongoError:
            continue
        if fault := fault_of(hello, _wanted_set(connections)):
            yield _shown(host, port), fault


def _options(connections: Connections) -> dict[str, Any]:
    url = connections.settings.mongo_url
    return {"tls": True} if url.startswith("mongodb+srv:") else dict(parse_uri(url)["options"])


def _servers(connections: Connections) -> list[tuple[str, int]]:
    """Return up to three servers, so that the check ends in time."""
    return _all_servers(connections)[:3]


def _all_servers(connections: Connections) -> list[tuple[str, int]]:
    """Return the servers that the URL names, or those of its DNS name."""
    url = connections.settings.mongo_url
    known = connections.mongo.topology_description.server_descriptions()
    named = known if url.startswith("mongodb+srv:") else parse_uri(url)["nodelist"]
    return [(host, port or 27017) for host, port in named]


def _rejected(connections: Connections, error: OperationFailure) -> SnapshotError:
    name = (error.details or {}).get("codeName") or type(error).__name__
    text = rejection_of(error, name)
    if text is None:
        return _error(connections, [f"{_address(connections)} refused the check ({name})"])
    lasting = error.code in {UNAUTHORIZED, AUTHENTICATION_FAILED, MECHANISM_UNAVAILABLE} or "password" in text
    kind = UnusableServer if lasting else StoreUnavailable
    return kind(f"{text}; server {_address(connections)}.", code=error.code)


def _error(connections: Connections, reasons: list[str], *, lasting: bool = False) -> SnapshotError:
    joined = "; ".join(reasons)
    url = VARIABLE if "mongo_url" in connections.settings.model_fields_set else f"{VARIABLE} is not set"
    if lasting:
        return UnusableServer(f"MongoDB cannot be used ({url}): {joined}.")
    return StoreUnavailable(f"MongoDB cannot be reached ({url}): {joined}.")


def _address(connections: Connections) -> str:
    return ", ".join(_shown(host, port) for host, port in _servers(connections))


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
