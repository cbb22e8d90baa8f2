"""The URL of Redis: one parser for redis-py, Celery, kombu and Flower, which read URLs differently.

    redis[s]://[[user]:password@]host[:port][/database][?option=value&...]
    unix://[[user]:password@]/path/of/the.sock[?db=database]
    sentinel[s]://[[user]:password@]host[:port],host[:port],.../name[/database][?option=value&...]

Whatever cannot be used in the same way by all of them is refused when a process starts, in a sentence that names the
faulty part and contains no value, because a password that is not percent-encoded may stand in any part.

With `rediss://` and `sentinels://` (TLS to Redis and to the Sentinels) the server's certificate and host name are
verified. kombu does not do so by default.
"""

import re
import ssl
from collections.abc import Callable
from ipaddress import AddressValueError, IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .address import Host, RedisAddress, Sentinels

__all__ = ["RedisAddress", "parse_redis_url"]

_PORTS = {"redis": 6379, "rediss": 6379, "sentinel": 26379, "sentinels": 26379, "unix": 0}
"""The schemes, and the default port of each."""
_TLS = ("rediss", "sentinels")
_HOST = re.compile(r"[\w.-]+")
_NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)
_DATABASE = re.compile(r"\d{1,5}", re.ASCII)
_ENCODE = "percent-encode /, ?, #, @, % and white space in the user name and password"
_NO_CLUSTER = (
    "Redis Cluster is not supported, because Celery's transport does not support it; use a primary with replicas and "
    "Sentinel, or a managed Redis with its cluster mode off"
)


def parse_redis_url(url: str) -> RedisAddress:
    """Parse the URL of Redis, in one of the three forms at the top of this module.

    Args:
        url: The URL. User name, password and path are percent-encoded.

    Returns:
        The address, from which clients and Celery's settings are made. Nothing is connected.

    Raises:
        ValueError: A clause that continues "SNAPSHOTS_REDIS_URL", such as "should have one host". It names the faulty
            part and what is allowed, and contains no value. Files that the options name have to exist and be readable.

    Example:
        parse_redis_url("sentinel://:secret@h1:26379,h2:26379/mymaster/0").sentinels.name  # "mymaster"
    """
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("should contain no white space or control characters")
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _PORTS:
        raise ValueError(
            f"should begin with redis://, rediss:// (TLS), unix://, sentinel:// or sentinels://; {_NO_CLUSTER}"
        )
    authority = re.match("[^/?#]*", rest)[0]  # type: ignore[index]  # matches every text
    login, _, hosts = authority.rpartition("@")
    parts = urlsplit(f"//h{rest.removeprefix(authority)}")
    if "@" in f"{parts.path}{parts.query}{parts.fragment}" or parts.fragment:
        raise ValueError(f"should have one @, after the password, and no #: {_ENCODE}")
    options = _options(parts.query)
    user, _, password = login.partition(":")
    sentinel_login = {name: options.pop(f"sentinel_{name}", None) or None for name in ("username", "password")}
    common: dict[str, Any] = {"username": _decoded(user), "password": _decoded(password)}
    if scheme.startswith("sentinel"):
        found = _hosts(hosts, scheme)
        name, _, database = parts.path.strip("/").partition("/")
        if not _NAME.fullmatch(name):
            raise ValueError("should have the name of the primary after the hosts, such as /mymaster/0")
        common["sentinels"] = Sentinels(found, name, **sentinel_login)
    elif any(sentinel_login.values()):
        raise ValueError("has the option sentinel_username or sentinel_password, which needs sentinel://")
    elif scheme == "unix":
        database = ""
        common["socket"] = _socket(hosts, parts.path)
    else:
        database = parts.path
        common["host"], common["port"] = _one_host(hosts, scheme)
    return RedisAddress(**common, database=_database(database, options.pop("db", None)), tls=_tls(options, scheme))


# --- host, port, database, login ------------------------------------------------------------------------


def _one_host(text: str, scheme: str) -> Host:
    if "," in text:
        raise ValueError(f"should have one host, unless it begins with sentinel://; {_NO_CLUSTER}")
    return _host(text, scheme)


def _hosts(text: str, scheme: str) -> tuple[Host, ...]:
    found = tuple(_host(each, scheme) for each in text.split(","))
    if len(set(found)) < len(found):
        raise ValueError("should list each Sentinel only once")
    return found


def _host(text: str, scheme: str) -> Host:
    try:
        parts = urlsplit(f"//{text}")
    except ValueError:
        raise ValueError(f"should have a valid host, with an IPv6 address in brackets; {_ENCODE}") from None
    host = parts.hostname or ""
    if ":" in host:
        try:
            host = str(IPv6Address(host))
        except AddressValueError:
            raise ValueError("should have a valid IPv6 address in brackets") from None
    elif not host:
        raise ValueError(f"should have a host after {scheme}:// or the @; {_ENCODE}")
    elif not _HOST.fullmatch(host):
        raise ValueError("should have a host of letters, digits, hyphens, underscores and dots")
    try:
        host.encode("idna")  # encoded as the name look-up does it, whose error is not an OSError
    except UnicodeError:
        raise ValueError("should have a host whose parts between the dots have 1 to 63 characters") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"should have a port from 1 to 65535, or none; {_ENCODE}")
    return host, port or _PORTS[scheme]


def _socket(host: str, path: str) -> str:
    if host or len(path) < 2:
        raise ValueError("should have the absolute path of a socket and no host, such as unix:///run/redis.sock")
    return _decoded(path) or ""


def _database(path: str, option: str | None) -> int:
    numbers = {part for part in (path.strip("/"), option) if part}
    if not all(_DATABASE.fullmatch(number) for number in numbers):
        raise ValueError("should have a database number after the host, such as /0, or none")
    if len({int(number) for number in numbers}) > 1:
        raise ValueError("should name one database number, after the host or as the option db")
    return int(numbers.pop()) if numbers else 0


def _decoded(text: str | None) -> str | None:
    try:
        return unquote(text, errors="strict") or None if text else None
    except UnicodeDecodeError:
        raise ValueError("should have a user name and password in UTF-8, percent-encoded") from None


# --- options --------------------------------------------------------------------------------------------


def _verification(value: str) -> str:
    names = {"none": "none", "cert_none": "none"}
    names |= dict.fromkeys(("optional", "cert_optional", "required", "cert_required"), "required")
    if value.lower() not in names:
        raise ValueError("required or none")
    return names[value.lower()]  # for a client, optional is the same as required


def _boolean(value: str) -> bool:
    names = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if value.lower() not in names:
        raise ValueError("true or false")
    return names[value.lower()]


def _file(value: str) -> str:
    try:
        with Path(value).open("rb"):
            return value
    except (OSError, ValueError):
        raise ValueError("a file that this process can read") from None


def _folder(value: str) -> str:
    if not Path(value).is_dir():
        raise ValueError("a folder of certificates")
    return value


_TLS_OPTIONS: dict[str, Callable[[str], Any]] = {
    "ssl_cert_reqs": _verification,
    "ssl_check_hostname": _boolean,
    "ssl_ca_certs": _file,
    "ssl_ca_path": _folder,
    "ssl_certfile": _file,
    "ssl_keyfile": _file,
}
_OPTIONS = ("db", *_TLS_OPTIONS, "sentinel_username", "sentinel_password")


def _options(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if unknown := [name for name in options if name not in _OPTIONS]:
        raise ValueError(f"has the unknown option {_shown(unknown[0])}; allowed options: {', '.join(_OPTIONS)}")
    if len(options) < len(pairs):
        raise ValueError("should not repeat an option")
    return options


def _shown(name: str) -> str:
    """Quote the name of an option; anything else might be part of a password."""
    return name if re.fullmatch(r"[a-z_]{1,40}", name) else "(name withheld)"


def _tls(options: dict[str, str], scheme: str) -> dict[str, Any] | None:
    if scheme not in _TLS:
        if options:
            needed = "sentinels" if scheme == "sentinel" else "rediss"
            raise ValueError(f"has the option {next(iter(options))}, which needs {needed}://")
        return None
    tls: dict[str, Any] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    for name, text in options.items():
        try:
            tls[name] = _TLS_OPTIONS[name](text)
        except ValueError as error:
            raise ValueError(f"has the option {name}, which should be {error}") from None
    if tls["ssl_cert_reqs"] == "none":
        tls["ssl_check_hostname"] = False
    _check_files(tls)
    return tls


def _check_files(tls: dict[str, Any]) -> None:
    context = ssl.create_default_context()
    if ca_certs := tls.get("ssl_ca_certs"):
        try:
            context.load_verify_locations(ca_certs)
        except OSError:
            raise ValueError("has the option ssl_ca_certs, which should be a file of certificates in PEM") from None
    if "ssl_keyfile" in tls and "ssl_certfile" not in tls:
        raise ValueError("has the option ssl_keyfile, which needs ssl_certfile")
    if certificate := tls.get("ssl_certfile"):
        try:
            context.load_cert_chain(certificate, tls.get("ssl_keyfile"), password="")
        except OSError:
            raise ValueError(
                "has the option ssl_certfile, which should be a certificate in PEM, with its unencrypted key there or "
                "in ssl_keyfile"
            ) from None
