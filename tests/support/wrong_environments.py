"""A table of wrong environments. Words in braces are addresses and files of `support.wrong_servers`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Wrong:
    """An environment with one fault."""

    name: str
    environment: Mapping[str, str]
    says: str
    """A pattern of what is said, besides the variable."""
    programs: Sequence[str] = ("status", "worker")
    waits: str = ""
    """The event that a long-running process logs if it waits until the fault passes, or goes on in spite of it."""


def _mongo(name: str, address: str, says: str, **more: Any) -> Wrong:
    scheme = "" if "://" in address else "mongodb://"
    return Wrong(f"MongoDB: {name}", {"SNAPSHOTS_MONGO_URL": scheme + address}, says, **more)


def _redis(name: str, url: str, says: str, **more: Any) -> Wrong:
    return Wrong(f"Redis: {name}", {"SNAPSHOTS_REDIS_URL": url}, says, **more)


def _setting(name: str, value: str, says: str, **more: Any) -> Wrong:
    return Wrong(f"{name}={value}", {f"SNAPSHOTS_{name}": value}, says, **more)


_MONGO_DOWN, _REDIS_DOWN = {"waits": "mongo_unavailable_at_start"}, {"waits": "redis_unavailable_at_start"}
_TLS = "/?replicaSet=rs0&tls=true&tlsCAFile={ca}&tlsCertificateKeyFile={both}"
_TO_TLS_REDIS = "rediss://{tls}/0?ssl_ca_certs="
_LONG, _KEYS, _ALL = ("worker", "api"), {"programs": ("up", "api")}, {"programs": ("up", "worker", "api")}

WRONG = [
    _mongo("no replica set", "{standalone}/?replicaSet=rs0", "is not a replica set, so it has no transactions"),
    _mongo("set not initiated", "{uninitiated}/?replicaSet=rs0", "is not initiated: run rs.initiate", **_MONGO_DOWN),
    _mongo("wrong port", "127.0.0.1:1/?replicaSet=rs0", "127.0.0.1:1: connection refused", **_MONGO_DOWN),
    _mongo("another program", "{redis}/?replicaSet=rs0", "no answer in time .wrong port|closed", **_MONGO_DOWN),
    _mongo("unknown host", "me:hidden@nowhere.invalid/?replicaSet=rs0", "nowhere.*unknown host", **_MONGO_DOWN),
    _mongo("unknown SRV", "mongodb+srv://me:hidden@nowhere.invalid/", "nowhere.invalid|DNS", **_MONGO_DOWN),
    _mongo("wrong password", "root:hidden@{secure}" + _TLS, "rejected the user or the password"),
    _mongo("wrong authSource", "root:root@{secure}" + _TLS + "&authSource=other", "check both, and authSource"),
    _mongo("no login", "{secure}" + _TLS, "requires a login"),
    _mongo("wrong set", "{mongo}/?replicaSet=other", "belongs to the replica set rs0: set replicaSet=rs0"),
    _mongo("TLS to a plain server", "{mongo}/?replicaSet=rs0&tls=true", r"TLS: .*speak TLS at this port"),
    _mongo("no TLS to a TLS server", "root:root@{secure}/?replicaSet=rs0", "does it expect TLS", **_MONGO_DOWN),
    _mongo("no CA file", "{secure}/?tls=true&tlsCAFile={missing}", "missing: No such file"),
    _mongo("folder as CA file", "{secure}/?tls=true&tlsCAFile={folder}", "Is a directory"),
    _mongo("CA file without certificate", "{secure}/?tls=true&tlsCAFile={empty.pem}", "tlsCAFile, which should be"),
    _mongo(
        "client certificate without key",
        "{secure}/?tls=true&tlsCAFile={ca}&tlsCertificateKeyFile={client}",
        "tlsCertificateKeyFile, which should be .* and its key",
    ),
    _mongo("unknown authority", "root:root@{secure}/?tls=true&tlsCAFile={stranger}", "TLS: self-signed certificate"),
    _mongo("user may not write", "reader:reader@{secure}" + _TLS, "does not allow this user to write: grant"),
    _mongo("user may not index", "writer:writer@{secure}" + _TLS, "does not allow this user to create indexes: grant"),
    _mongo("two databases", "{mongo}/other?replicaSet=rs0", "specify different databases"),
    _mongo("unknown option", "{mongo}/?replicaSett=rs0", "unknown option replicasett"),
    _mongo("read concern", "{mongo}/?replicaSet=rs0&readConcernLevel=most", "readConcernLevel, which must be in"),
    _mongo("contradiction", "{mongo},{mongo}/?directConnection=true", "cannot specify multiple hosts with directConn"),
    _redis("wrong port", "redis://127.0.0.1:1/0", "127.0.0.1:1: connection refused", **_REDIS_DOWN),
    _redis("unknown host", "redis://:hidden@nowhere.invalid/0", "nowhere.invalid:6379: unknown host", **_REDIS_DOWN),
    _redis("wrong password", "redis://:hidden@{locked}/0", "rejected the user or the password"),
    _redis("no password", "redis://{locked}/0", "requires a password"),
    _redis("ACL", "redis://limited:pw@{limited}/0", "does not allow the command brpop", programs=["doctor"]),
    _redis("replica", "redis://{replica}/0", "is a replica, which refuses writes", **_REDIS_DOWN),
    _redis("Cluster", "redis://{cluster}/0", "is a member of a Redis Cluster"),
    _redis("too old", "redis://{old}/0", "6.2.14 is too old; upgrade to Redis 7.0"),
    _redis("database", "redis://{small}/9", "no database with this number"),
    _redis("full", "redis://{full}/0", "is full .*: raise maxmemory", **_REDIS_DOWN),
    _redis("TLS to a plain server", "rediss://{redis}/0", "does it speak TLS at this port", **_REDIS_DOWN),
    _redis("no TLS to a TLS server", "redis://{tls}/0", "does it expect TLS", **_REDIS_DOWN),
    _redis("no CA file", _TO_TLS_REDIS + "{missing}", "ssl_ca_certs, which should be a file that"),
    _redis("folder as CA file", _TO_TLS_REDIS + "{folder}", "ssl_ca_certs, which should be a file that"),
    _redis("CA file without certificate", _TO_TLS_REDIS + "{empty.pem}", "ssl_ca_certs, which should be .* in PEM"),
    _redis("certificate without key", _TO_TLS_REDIS + "{ca}&ssl_certfile={client}", "ssl_certfile, which .* key"),
    _redis("unknown authority", _TO_TLS_REDIS + "{stranger}", "TLS: self-signed certificate"),
    _redis("no socket", "unix://{missing}?db=0", "no such file or directory; server .*missing", **_REDIS_DOWN),
    _redis("unknown primary", "sentinel://{sentinel}/other/0", "no primary with the name other; it watches: mymaster"),
    _redis("Redis as Sentinel", "sentinel://{redis}/mymaster/0", "is not a Sentinel but a Redis server"),
    _redis("no password of the Sentinel", "sentinel://{locked}/mymaster/0", "a login of its own: .* sentinel_password"),
    _redis("no Sentinel", "sentinel://127.0.0.1:1/mymaster/0", "127.0.0.1:1: connection refused", **_REDIS_DOWN),
    _redis("Sentinel as Redis", "redis://{sentinel}/0", "is a Sentinel: use sentinel://"),
    _redis("no append-only file", "redis://{lossy}/0", "appendonly is no", programs=_LONG, waits="redis_may_lose_data"),
    _redis("eviction", "redis://{evicting}/0", "policy is allkeys-lru", programs=_LONG, waits="redis_may_lose_data"),
    _setting("MONGO_DATABASE", "my db", "should have no spaces"),
    _setting("USERS_COLLECTION", "contacts", "SNAPSHOTS_CONTACTS_COLLECTION and .* have the same value, contacts"),
    _setting("MONGO_DATABASE", "local", "should not be one of MongoDB's own databases"),
    _setting("REQUESTS_STREAM", "snapshots", "should not be the name of a queue"),
    _setting("CHUNK_SIZE", "many", "should be a valid integer"),
    _setting("CHUNK_SIZE", "-1", "should be greater than or equal to 1"),
    _setting("CHUNK_SIZE", "501", "should be less than or equal to 500"),
    _setting("RUN_DEADLINE", "soon", "should be a duration such as 45s"),
    _setting("MESSAGE_TEXT_FIELD", "body..text", "should be a field such as text or content.body"),
    _setting("MESSAGE_SENDER_VALUES", "agent", "should be pairs of a stored value and one of contact, user"),
    _setting("SECRETS_DIR", "{missing}", "names .*missing, which is not a directory"),
    _setting("CHUNK_SIZES", "5", "SNAPSHOTS_CHUNK_SIZE\\b", programs=_LONG, waits="unknown_setting"),
    _setting("JWT_SECRET", "", "should not be empty", **_KEYS),
    _setting("JWT_SECRET", "short", "32", programs=["api"], waits="jwt_secret_short"),
    _setting("JWT_JWKS", "{missing}", "names a file that cannot be read: No such file", **_KEYS),
    _setting("JWT_JWKS", "{empty.pem}", "should name a file with a JSON Web Key Set", **_KEYS),
    _setting("JWT_PUBLIC_KEY", "{empty.pem}", "should name a", **_KEYS),
    _setting("ERASURE_SIGNING_KEY", "{missing}", "missing cannot be read .No such file", **_ALL),
    _setting("ERASURE_LOG", "{file}/log", "file/log cannot be written: .*is a file", **_ALL),
    _setting("EXPORTS_URL", "{file}/exports", "be written", programs=["worker"], waits="exports_cannot_be_written"),
    _setting("METRICS_PORT", "many", "should be a valid integer", programs=("worker", "beat", "listen")),
    _setting("API_PORT", "{taken}", "cannot listen on 127.0.0.1:", programs=["api on its port"]),
    Wrong("no FLOWER_BASIC_AUTH", {"FLOWER_BASIC_AUTH": ""}, "FLOWER_BASIC_AUTH", ["flower"]),
]
