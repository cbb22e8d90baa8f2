"""The address of Redis: read in one way for all processes, or refused by the name of its faulty part."""

from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.utils.url import parse_url

from support.certificates import Certificates
from worker.client import SnapshotClient
from worker.errors import InvalidSettings
from worker.redis_url import parse_redis_url

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
    ("rediss://h?ssl_check_hostname=False", {"tls": {"ssl_cert_reqs": "required", "ssl_check_hostname": False}}),
]

INVALID = {
    "unix:///run/redis.sock": "Unix sockets, Sentinel and Cluster are not supported",
    "sentinel://h:26379/0": "should begin with redis:// or rediss://",
    "h:6379": "should begin with redis:// or rediss://",
    "": "should begin with redis:// or rediss://",
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
    "redis://:s3cret@h1,h2/0": "one host",
    "redis://:s3cret@h1:6379,h2:6379/0": "one host",
    "redis://:s3cret@h 1/0": "white space",
    "redis://:s3cret@h/0\n": "white space",
    "redis://:s3cret@h;redis://h2": "a host of letters",
    "redis://:s3cret@..:1/0": "1 to 63 characters",
    f"redis://:s3cret@{'a' * 64}.invalid/0": "1 to 63 characters",
    "redis://:s3cret@[::1": "an IPv6 address in brackets",
    "redis://:s3cret@[::g]": "an IPv6 address in brackets",
    "redis://:s3cret%ff@h": "in UTF-8",
    "redis://:s3cret@h?socket_timeout=5": "the option socket_timeout; allowed are db, ssl_cert_reqs",
    "redis://:s3cret@h?protocol=3": "the option protocol",
    "redis://:s3cret@h?client_name=me": "the option client_name",
    "redis://:s3cret@h?max_connections=5": "the option max_connections",
    "redis://:s3cret@h?health_check_interval=5": "the option health_check_interval",
    "redis://:s3cret@h?s3cret%26=1": "the option (a name that is not one)",
    "redis://:s3cret@h?db=1&db=2": "each option once",
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


@pytest.mark.parametrize("url", [url for url, _ in VALID])
def test_redis_py_kombu_and_flower_are_given_the_same_address(url: str) -> None:
    address = parse_redis_url(url)
    with redis.Redis(**address.client_options) as client:
        ours = client.connection_pool.make_connection()
    settings = address.celery_settings
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
