"""What is said of a server that cannot be used, and whether waiting may help, without a server."""

import ssl
from typing import Any

import pytest
import redis
from celery.signals import worker_init
from pymongo.errors import AutoReconnect, ConfigurationError, OperationFailure, ServerSelectionTimeoutError

import tasks.signals
from worker.settings import load
from worker.startup import mongo_check, redis_check
from worker.stores import mongo_errors, redis_errors
from worker.stores.connections import Connections

TIMEOUTS = " (configured timeouts: socketTimeoutMS: 20000.0ms, connectTimeoutMS: 3000.0ms)"
TOPOLOGY = ", Timeout: 2.0s, Topology Description: <TopologyDescription id: 1>"
MODERN = {"maxWireVersion": 17}


@pytest.mark.parametrize(
    ("hello", "wanted", "text", "lasting"),
    [
        ({**MODERN, "isWritablePrimary": True}, None, "is not a replica set", True),
        ({**MODERN, "isWritablePrimary": True}, "rs0", "rs.initiate()", True),
        ({**MODERN, "isreplicaset": True}, "rs0", "not initiated", False),
        ({**MODERN, "setName": "rs1"}, "rs0", "belongs to the replica set rs1", True),
        ({"maxWireVersion": 16, "setName": "rs0"}, "rs0", "too old", True),
    ],
)
def test_reply_of_a_mongod_that_cannot_be_used(hello: Any, wanted: str | None, text: str, lasting: bool) -> None:
    fault = mongo_check.fault_of(hello, wanted)
    assert fault is not None
    assert text in fault.text
    assert fault.lasting is lasting


@pytest.mark.parametrize(
    ("hello", "wanted"),
    [
        ({**MODERN, "setName": "rs0"}, "rs0"),
        ({**MODERN, "setName": "rs0"}, None),
        ({**MODERN, "msg": "isdbgrid"}, None),
    ],
)
def test_reply_of_a_mongod_or_mongos_that_can_be_used(hello: Any, wanted: str | None) -> None:
    assert mongo_check.fault_of(hello, wanted) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AutoReconnect(f"h:1: [Errno 111] Connection refused{TIMEOUTS}"), "h:1: connection refused"),
        (
            ServerSelectionTimeoutError(f"h:1: [Errno -2] Name or service not known{TIMEOUTS}{TOPOLOGY}"),
            "h:1: unknown host",
        ),
        (
            AutoReconnect(
                "SSL handshake failed: h:1: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
                f"self-signed certificate (_ssl.c:1006){TIMEOUTS}"
            ),
            "h:1: TLS: self-signed certificate",
        ),
        (AutoReconnect(f"h:1: timed out{TIMEOUTS}"), "h:1: timed out"),
        (AutoReconnect("h:1: Got response id 80 but expected 17"), "h:1: the server is not a MongoDB server"),
        (
            ServerSelectionTimeoutError(f"No primary available for writes{TOPOLOGY}"),
            "the replica set has no primary (is a majority of its members up?)",
        ),
        (
            ServerSelectionTimeoutError(f'No replica set members match selector "Primary()"{TOPOLOGY}'),
            "the replica set has no primary (is a majority of its members up?)",
        ),
    ],
)
def test_reason_why_mongo_cannot_be_reached(error: Any, reason: str) -> None:
    assert mongo_errors.reason_of(error) == reason


def test_configuration_error_keeps_its_reason() -> None:
    assert mongo_errors.reason_of(ConfigurationError("Server at h reports wire version 5.")).startswith("Server at h")


@pytest.mark.parametrize(
    ("code", "text", "named"),
    [
        (
            13,
            "not authorized on db to execute command { createIndexes: 1 }",
            "allow this user to run createIndexes",
        ),
        (13, "command find requires authentication", "requires a login"),
        (18, "Authentication failed.", "rejected the user or the password"),
        (20, "Transaction numbers are only allowed on a replica set member or mongos", "is not a replica set"),
        (14031, "available disk space of 1 bytes is less", "disk is full"),
    ],
)
def test_operation_that_mongo_refuses_is_explained(code: int, text: str, named: str) -> None:
    assert named in str(mongo_errors.rejection_of(OperationFailure(text, code, {"codeName": "Name"}), "Name"))


@pytest.mark.parametrize(
    ("hello", "text"),
    [
        ({"mode": "sentinel"}, "Sentinel"),
        ({"mode": "cluster", "version": "7.0.15"}, "Cluster"),
        ({"mode": "standalone", "version": "6.2.14"}, "Redis 6.2.14 is too old; upgrade to Redis 7.0 or newer"),
    ],
)
def test_reply_of_a_redis_that_cannot_be_used(hello: Any, text: str) -> None:
    assert text in str(redis_check.fault_of(hello))


@pytest.mark.parametrize("version", ["7.0.15", "7.2.4", "8.0.2", "9.1.0"])
def test_supported_versions_of_redis_and_valkey(version: str) -> None:
    assert redis_check.fault_of({"mode": "standalone", "version": version, "role": "master"}) is None


@pytest.mark.parametrize(
    ("error", "text", "lasting"),
    [
        (redis.ConnectionError("Error 111 connecting to h:1. Connection refused."), "h:1: connection refused", False),
        (redis.ConnectionError("Error -2 connecting to h:1. Name or service not known."), "h:1: unknown host", False),
        (redis.ConnectionError("Error 2 connecting to /r.sock. No such file or directory."), "no such file", False),
        (redis.TimeoutError("Timeout connecting to server"), "no answer in time", False),
        (redis.exceptions.AuthenticationError("invalid", status_code="WRONGPASS"), "rejected the user or the", True),
        (redis.exceptions.AuthenticationError("required", status_code="NOAUTH"), "requires a password", True),
        (redis.exceptions.BusyLoadingError("loading", status_code="LOADING"), "still loading", False),
        (redis.ResponseError("DENIED Redis is running in protected mode"), "protected mode", True),
        (redis.ResponseError("ERR DB index is out of range"), "no database with this number", True),
        (redis.exceptions.NoPermissionError("can't run the 'xadd' command"), "does not allow the command xadd", True),
        (
            redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"),
            "Redis cannot write to its disk, so it refuses writes (MISCONF: No space left on device)",
            False,
        ),
        (redis.exceptions.InvalidResponse("Protocol Error"), "is not a Redis server", True),
        (redis.ResponseError("ERR unknown command 'HELLO'"), "it is older than Redis 7.0, or a proxy or", True),
        (redis.ResponseError("BUSY Redis is busy running a script."), "busy with a script of another program", False),
    ],
)
def test_redis_error_is_explained(error: Any, text: str, lasting: bool) -> None:
    assert text in redis_errors.explain(error)
    assert redis_errors.is_lasting(error) is lasting


def test_untrusted_certificate_of_redis_is_named_and_lasting() -> None:
    error = redis.ConnectionError("Error 1 connecting to h:1.")
    error.__cause__ = ssl.SSLCertVerificationError(1, "failed")
    error.__cause__.verify_message = "self-signed certificate"
    assert "h:1: TLS: self-signed certificate" in redis_errors.explain(error)
    assert redis_errors.is_lasting(error)


def test_default_address_is_named_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SNAPSHOTS_MONGO_URL", "SNAPSHOTS_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    for settings, variable in (
        (load(), "SNAPSHOTS_MONGO_URL is not set"),
        (load(mongo_url="mongodb://127.0.0.1/?replicaSet=rs0"), "SNAPSHOTS_MONGO_URL"),
    ):
        found = mongo_check.diagnose(Connections(settings), ConfigurationError("Server at h reports wire version 5."))
        assert found is not None
        assert f"({variable}): Server at h" in found.message


def test_member_that_only_the_replica_set_can_reach_is_explained() -> None:
    connections = Connections(load(mongo_url="mongodb://127.0.0.1:1/?replicaSet=rs0"))
    error = ServerSelectionTimeoutError(f"mongo:27017: [Errno -2] Name or service not known{TIMEOUTS}{TOPOLOGY}")
    found = mongo_check.diagnose(connections, error)
    connections.close()
    assert found is not None
    assert "the replica set of 127.0.0.1:1 names the member mongo:27017: unknown host" in found.message
    assert "directConnection=true" in found.message


def test_risks_of_redis() -> None:
    safe = {"aof_enabled": 1, "maxmemory_policy": "noeviction", "aof_last_write_status": "ok"}
    assert list(redis_check.risks(safe)) == []
    (lossy,) = redis_check.risks({**safe, "aof_enabled": 0})
    assert "appendonly is no" in lossy
    (evicting,) = redis_check.risks({**safe, "maxmemory_policy": "allkeys-lru"})
    assert "maxmemory-policy is allkeys-lru" in evicting
    (full,) = redis_check.risks({**safe, "aof_last_write_status": "err"})
    assert "its disk" in full
    (unknown,) = redis_check.risks({})
    assert "could not be read" in unknown


def test_unexpected_error_at_start_ends_a_process_of_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery logs what a signal's receiver raises, and goes on, unless it is SystemExit."""
    monkeypatch.setattr(tasks.signals, "_prepare", lambda: 1 // 0)
    with pytest.raises(SystemExit) as ended:
        worker_init.send(sender=None)
    assert ended.value.code == 1
