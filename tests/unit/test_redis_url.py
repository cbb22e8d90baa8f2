"""The address of Redis: read in one way for all processes, or refused by the name of its faulty part."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import redis
from kombu import Connection
from kombu.utils.url import parse_url

from support.certificates import Certificates
from worker.celery_support import transport
from worker.client import SnapshotClient
from worker.errors import InvalidSettings
from worker.log import hide_passwords
from worker.redis_address.address import RedisAddress
from worker.redis_address.url import parse_redis_url

VALID: list[tuple[str, dict[str, Any]]] = [
    ("redis://h", {"host": "h", "port": 6379, "database": 0, "username": None, "password": None, "tls": None}),
    ("REDIS://h:7/3", {"host": "h", "port": 7, "database": 3}),
    ("redis://h/99", {"database": 99}),
    ("redis://h?db=3", {"database": 3}),
    ("redis://h/3?db=3", {"database": 3}),
    ("redis://:p%40s%2Fs%3B@h", {"username": None, "password": "p@s/s;"}),
    ("redis://user:p@ss@h", {"username": "user", "password": "p@ss"}),
    ("redis://user@h", {"username": "user", "password": None}),
    ("redis://[::1]:6380/1", {"host": "::1", "port": 6380, "database": 1}),
    ("redis://redis_1.default.svc", {"host": "redis_1.default.svc"}),
    ("rediss://h", {"tls": {"ssl_cert_reqs": "required", "ssl_check_hostname": True}}),
    ("rediss://h?ssl_cert_reqs=CERT_REQUIRED", {"tls": {"ssl_cert_reqs": "required", "ssl_check_hostname": True}}),
    ("rediss://h?ssl_cert_reqs=optional", {"tls": {"ssl_cert_reqs": "required", "ssl_check_hostname": True}}),
    ("rediss://h?ssl_cert_reqs=CERT_NONE", {"tls": {"ssl_cert_reqs": "none", "ssl_check_hostname": False}}),
    ("unix:///run/redis.sock", {"host": None, "socket": "/run/redis.sock", "database": 0, "password": None}),
    ("unix://user:p%40s@/run/my%20redis.sock?db=3", {"socket": "/run/my redis.sock", "database": 3, "password": "p@s"}),
    ("rediss://h?ssl_check_hostname=False", {"tls": {"ssl_cert_reqs": "required", "ssl_check_hostname": False}}),
]

INVALID = {
    "h:6379": "should begin with redis://, rediss:// (TLS), unix://, sentinel://",
    "": "should begin with redis://, rediss:// (TLS), unix://, sentinel://",
    "redis+cluster://h:6379": "Redis Cluster is not supported",
    "unix://": "the absolute path of a socket",
    "unix:///": "the absolute path of a socket",
    "unix://run/redis.sock": "the absolute path of a socket and no host",
    "unix:///run/redis.sock?db=x": "a database number",
    "unix:///run/redis.sock?ssl_cert_reqs=none": "the option ssl_cert_reqs, which needs rediss://",
    "sentinel://:s3cret@h:26379": "the name of the primary",
    "sentinel://:s3cret@h:26379/": "the name of the primary",
    "sentinel://:s3cret@h:26379/my%20master": "the name of the primary",
    "sentinel://:s3cret@h:26379/mymaster/x": "a database number",
    "sentinel://:s3cret@h:26379,/mymaster": "should have a host",
    "sentinel://:s3cret@h:26379,h:26379/mymaster": "each Sentinel only once",
    "sentinel://:s3cret@h:26379,h2:x/mymaster": "a port from 1 to 65535",
    "sentinel://:s3cret@h/mymaster?ssl_cert_reqs=none": "the option ssl_cert_reqs, which needs sentinels://",
    "redis://:s3cret@h?sentinel_password=s3cret": "needs sentinel://",
    "redis://": "should have a host",
    "redis:///0": "should have a host",
    "redis://:s3cret@/0": "should have a host",
    "redis://:s3cret/word@h:6379/0": "percent-encode",
    "redis://:s3cret#word@h:6379/0": "percent-encode",
    "redis://:s3cret?word@h:6379/0": "percent-encode",
    "redis://:s3cret@h:port/0": "a port from 1 to 65535",
    "redis://:s3cret@h:0/0": "a port from 1 to 65535",
    "redis://:s3cret@h:99999/0": "a port from 1 to 65535",
    "redis://:s3cret@h/abc": "a database number",
    "redis://:s3cret@h/-1": "a database number",
    "redis://:s3cret@h/0/1": "a database number",
    "redis://:s3cret@h/0?db=1": "one database number",
    "redis://:s3cret@h?db=x": "a database number",
    "redis://:s3cret@h1,h2/0": "one host, unless it begins with sentinel://",
    "redis://:s3cret@h1:6379,h2:6379/0": "one host",
    "redis://:s3cret@h 1/0": "white space",
    "redis://:s3cret@h/0\n": "white space",
    "redis://:s3cret@h;redis://h2": "a host of letters",
    "redis://:s3cret@..:1/0": "1 to 63 characters",
    f"redis://:s3cret@{'a' * 64}.invalid/0": "1 to 63 characters",
    "redis://:s3cret@[::1": "an IPv6 address in brackets",
    "redis://:s3cret@[::g]": "an IPv6 address in brackets",
    "redis://:s3cret%ff@h": "in UTF-8",
    "redis://:s3cret@h?socket_timeout=5": "the unknown option socket_timeout; allowed options: db, ssl_cert_reqs",
    "redis://:s3cret@h?protocol=3": "the unknown option protocol",
    "redis://:s3cret@h?client_name=me": "the unknown option client_name",
    "redis://:s3cret@h?max_connections=5": "the unknown option max_connections",
    "redis://:s3cret@h?health_check_interval=5": "the unknown option health_check_interval",
    "redis://:s3cret@h?s3cret%26=1": "the unknown option (name withheld)",
    "redis://:s3cret@h?db=1&db=2": "should not repeat an option",
    "redis://:s3cret@h?ssl_cert_reqs=none": "the option ssl_cert_reqs, which needs rediss://",
    "rediss://:s3cret@h?ssl_cert_reqs=maybe": "the option ssl_cert_reqs, which should be required or none",
    "rediss://:s3cret@h?ssl_check_hostname=maybe": "the option ssl_check_hostname, which should be true or false",
    "rediss://:s3cret@h?ssl_ca_certs=/nowhere.pem": "the option ssl_ca_certs, which should be a file",
    "rediss://:s3cret@h?ssl_ca_path=/nowhere": "the option ssl_ca_path, which should be a folder",
    "rediss://:s3cret@h?ssl_ca_certs=/etc/hosts": "the option ssl_ca_certs, which should be a file of certificates",
    "rediss://:s3cret@h?ssl_certfile=/etc/hosts": "the option ssl_certfile, which should be a certificate",
    "rediss://:s3cret@h?ssl_keyfile=/etc/hosts": "the option ssl_keyfile, which needs ssl_certfile",
    "rediss://:s3cret@h?ssl_keyfile": "the option ssl_keyfile, which should be a file",
}


@pytest.mark.parametrize(("url", "expected"), VALID, ids=[url for url, _ in VALID])
def test_parts_of_a_url_are_read(url: str, expected: dict[str, Any]) -> None:
    address = parse_redis_url(url)
    assert {name: getattr(address, name) for name in expected} == expected


@pytest.mark.parametrize("url", INVALID)
def test_url_that_cannot_be_used_is_refused_by_the_name_of_the_part_and_without_a_value(url: str) -> None:
    with pytest.raises(ValueError, match=r"^(should|has)") as refused:
        parse_redis_url(url)
    assert INVALID[url] in str(refused.value)
    assert "s3cret" not in str(refused.value)
    with pytest.raises(InvalidSettings, match=r"^The URL of Redis (should|has)"):
        SnapshotClient(url)


SENTINELS = [
    ("sentinel://h/m", (("h", 26379),), ("m", 0)),
    ("sentinel://u:p%40s@h1:1,h2,[::1]:3/my-master/3", (("h1", 1), ("h2", 26379), ("::1", 3)), ("my-master", 3)),
    ("sentinels://u:p%40s@h1,h2/my.master?db=2&ssl_cert_reqs=none", (("h1", 26379), ("h2", 26379)), ("my.master", 2)),
]


@pytest.mark.parametrize(("url", "hosts", "primary"), SENTINELS, ids=[url for url, *_ in SENTINELS])
def test_redis_py_and_kombu_are_given_the_same_sentinels(
    url: str, hosts: tuple[tuple[str, int], ...], primary: tuple[str, int]
) -> None:
    address = parse_redis_url(url)
    with address.client() as client, kombu_to(address) as theirs:
        pools: list[Any] = [client.connection_pool, theirs.default_channel.pool]
    for pool in pools:
        watching = [each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels]
        assert [(each["host"], each["port"]) for each in watching] == list(hosts)
        assert {each["socket_timeout"] for each in watching} == {1.0}
        assert (pool.service_name, pool.connection_kwargs["db"]) == primary
        ours = pool.make_connection()
        assert (ours.username, ours.password) == (address.username, address.password)
        over_tls = [isinstance(ours, redis.SSLConnection), *(each.get("ssl_cert_reqs") for each in watching)]
        assert over_tls == [True, "none", "none"] if address.tls else over_tls[0] is False


def test_login_of_the_sentinels_is_their_own_and_is_not_shown() -> None:
    url = "sentinel://u:p@h/m?sentinel_username=watch&sentinel_password=s3%26cret"
    address = parse_redis_url(url)
    with address.client() as client:
        (watching,) = client.connection_pool.sentinel_manager.sentinels
    login = watching.connection_pool.connection_kwargs
    assert (login["username"], login["password"]) == ("watch", "s3&cret")
    assert "cret" not in f"{address!r} {address} {hide_passwords(url)}"
    assert str(address) == "m of the Sentinels h:26379"


@contextmanager
def kombu_to(address: RedisAddress) -> Iterator[Any]:
    """A connection of kombu whose channels connect to nothing when they are made."""
    transport.register()
    own = address.celery_settings()
    options = own["broker_transport_options"]
    connection = Connection(own["broker_url"], ssl=own["broker_use_ssl"], transport_options=options)
    with patch.object(redis.Redis, "ping"), connection as made:
        yield made


def test_redis_py_and_kombu_are_given_the_same_socket() -> None:
    address = parse_redis_url("unix://user:p%40s@/run/my%20redis.sock?db=3")
    with address.client() as client, kombu_to(address) as theirs:
        for pool in (client.connection_pool, theirs.default_channel.pool):
            made: Any = pool.make_connection()
            assert (made.path, made.db, made.username, made.password) == ("/run/my redis.sock", 3, "user", "p@s")


@pytest.mark.parametrize("url", [url for url, _ in VALID if not url.startswith("unix")])
def test_redis_py_kombu_and_flower_are_given_the_same_address(url: str) -> None:
    address = parse_redis_url(url)
    with address.client() as client:
        ours = client.connection_pool.make_connection()
    settings = address.celery_settings()
    theirs = parse_url(settings["broker_url"])
    assert (theirs["hostname"], theirs["port"], int(theirs["virtual_host"])) == (ours.host, ours.port, ours.db)
    assert (theirs["userid"], theirs["password"]) == (ours.username, ours.password)
    assert theirs["transport"] == ("rediss" if isinstance(ours, redis.SSLConnection) else "redis")
    assert settings["broker_use_ssl"] == (address.tls or False)


def test_certificate_files_reach_the_clients(certificates: Certificates) -> None:
    files = f"ssl_ca_certs={certificates.ca}&ssl_certfile={certificates.server}&ssl_keyfile={certificates.server_key}"
    address = parse_redis_url(f"rediss://h?{files}")
    assert address.tls == {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_ca_certs": str(certificates.ca),
        "ssl_certfile": str(certificates.server),
        "ssl_keyfile": str(certificates.server_key),
    }
    assert address.verifies


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(Path(tmp_path_factory.mktemp("certificates")))


@pytest.mark.parametrize(
    ("url", "weakness"),
    [
        ("redis://h", None),
        ("rediss://h", None),
        ("rediss://h?ssl_cert_reqs=none", "ssl_cert_reqs=none"),
        ("rediss://h?ssl_check_hostname=no", "ssl_check_hostname=false"),
    ],
)
def test_tls_without_verification_is_named(url: str, weakness: str | None) -> None:
    said = parse_redis_url(url).weakness
    assert said is None if weakness is None else said is not None and said.startswith(weakness)


def test_password_is_not_in_the_representation() -> None:
    assert "s3cret" not in repr(parse_redis_url("redis://:s3cret@h"))
