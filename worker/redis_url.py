"""The address of Redis: one parser for redis-py, Celery, kombu and Flower, which read URLs differently.

    redis[s]://[[user]:password@]host[:port][/database][?option=value&...]

Whatever cannot be used in the same way by all of them is refused when a process starts, in a sentence that names the
faulty part and contains no value, because a password that is not percent-encoded may stand in any part.

With `rediss://` the server's certificate and host name are verified. kombu does not do so by default.
"""

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

DEFAULT_PORT = 6379
_PLAIN, _TLS = "redis", "rediss"
_HOST = re.compile(r"[\w.-]+")
_DATABASE = re.compile(r"\d{1,5}", re.ASCII)
_ENCODE = "percent-encode /, ?, #, @, % and white space in the user name and password"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis server and database, and how to connect to it."""

    host: str
    port: int = DEFAULT_PORT
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: dict[str, Any] | None = field(default=None, repr=False)
    """The options of redis-py's SSLConnection, always with `ssl_cert_reqs` and `ssl_check_hostname`. None: no TLS."""

    @property
    def verifies(self) -> bool:
        """Whether the server has to prove its identity. Without TLS it cannot."""
        return self.tls is not None and self.tls["ssl_cert_reqs"] != "none" and bool(self.tls["ssl_check_hostname"])

    @property
    def weakness(self) -> str | None:
        """Say what the address does not verify although it asks for TLS, or None."""
        if self.tls is None or self.verifies:
            return None
        if self.tls["ssl_cert_reqs"] == "none":
            return "ssl_cert_reqs=none: the certificate of Redis is not verified, so any server can obtain the password"
        return "ssl_check_hostname=false: a certificate for any other host is accepted"

    @property
    def client_options(self) -> dict[str, Any]:
        """Keyword arguments of `redis.Redis` and `redis.asyncio.Redis`."""
        return {
            "host": self.host,
            "port": self.port,
            "db": self.database,
            "username": self.username,
            "password": self.password,
            **({"ssl": True, **self.tls} if self.tls is not None else {}),
        }

    @property
    def celery_settings(self) -> dict[str, Any]:
        """Celery's `broker_url`, without options, and `broker_use_ssl`. Flower uses both, too."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = quote(self.username or "", safe="")
        password = f":{quote(self.password, safe='')}" if self.password else ""
        scheme = _PLAIN if self.tls is None else _TLS
        login = f"{user}{password}@" if user or password else ""
        return {
            "broker_url": f"{scheme}://{login}{host}:{self.port}/{self.database}",
            "broker_use_ssl": False if self.tls is None else dict(self.tls),
        }


def parse_redis_url(url: str) -> RedisAddress:
    """Parse the URL. Raises ValueError, whose sentence names the faulty part and what is allowed, and no value."""
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("should contain no white space or control characters")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"should have an IPv6 address in brackets, if it has one; {_ENCODE}") from None
    if parts.scheme not in {_PLAIN, _TLS}:
        raise ValueError(
            "should begin with redis:// or rediss:// (TLS); Unix sockets, Sentinel and Cluster are not supported"
        )
    if "@" in f"{parts.path}{parts.query}{parts.fragment}" or parts.fragment:
        raise ValueError(f"should have one @, behind the password, and no #: {_ENCODE}")
    options = _options(parts.query)
    return RedisAddress(
        host=_host(parts),
        port=_port(parts),
        database=_database(parts.path, options.pop("db", None)),
        username=_decoded(parts.username),
        password=_decoded(parts.password),
        tls=_tls(options, is_tls=parts.scheme == _TLS),
    )


# --- host, port, database, login ------------------------------------------------------------------------


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    if ":" in host:
        try:
            return str(IPv6Address(host))
        except AddressValueError:
            raise ValueError("should have a valid IPv6 address in brackets") from None
    if not host:
        raise ValueError(f"should have a host behind redis:// or the @; {_ENCODE}")
    if "," in parts.netloc.rpartition("@")[2]:
        raise ValueError("should have one host; lists of hosts (Sentinel, Cluster) are not supported")
    if not _HOST.fullmatch(host):
        raise ValueError("should have a host of letters, digits, hyphens, underscores and dots")
    try:
        host.encode("idna")  # as the look-up does; its error is not an OSError
    except UnicodeError:
        raise ValueError("should have a host whose parts between the dots have 1 to 63 characters") from None
    return host


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"should have a port from 1 to 65535, or none; {_ENCODE}")
    return port or DEFAULT_PORT


def _database(path: str, option: str | None) -> int:
    numbers = {part for part in (path.strip("/"), option) if part}
    if not all(_DATABASE.fullmatch(number) for number in numbers):
        raise ValueError("should have a database number behind the host, such as /0, or none")
    if len({int(number) for number in numbers}) > 1:
        raise ValueError("should name one database number, behind the host or as the option db")
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
_OPTIONS = ("db", *_TLS_OPTIONS)


def _options(query: str) -> dict[str, str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if unknown := [name for name in options if name not in _OPTIONS]:
        raise ValueError(f"has the option {_shown(unknown[0])}; allowed are {', '.join(_OPTIONS)}")
    if len(options) < len(pairs):
        raise ValueError("should have each option once")
    return options


def _shown(name: str) -> str:
    """Quote the name of an option; anything else might be part of a password."""
    return name if re.fullmatch(r"[a-z_]{1,40}", name) else "(a name that is not one)"


def _tls(options: dict[str, str], *, is_tls: bool) -> dict[str, Any] | None:
    if not is_tls:
        if options:
            raise ValueError(f"has the option {next(iter(options))}, which needs rediss://")
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
