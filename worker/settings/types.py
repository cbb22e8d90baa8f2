"""The types of settings: how the text of a variable is read, which values are allowed, and the message for others.

A message continues the name of the variable, as in `SNAPSHOTS_RUN_DEADLINE: should be a duration`. It never quotes the
value, which may contain a password.
"""

import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from worker.redis_address.url import parse_redis_url

_OPTION_VALUE = re.compile(r"(?:The value of )?(\w+) (must be (?:an? [a-z ]+|'true' or 'false'|in \([\w', -]+\)))")
"""Matches PyMongo's messages about a wrong value of an option that do not quote the value."""
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _read_duration(value: Any) -> Any:
    """Read `90d`, `12h`, `30m`, `45s`, or a number of seconds."""
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", value.strip())):
        with suppress(OverflowError):
            return timedelta(**{_UNITS[found[2] or "s"]: float(found[1])})
    if isinstance(value, timedelta):
        return value
    raise ValueError("should be a duration such as 45s, 30m, 12h or 90d, or a number of seconds")


def _url_of(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in schemes or not parts.netloc or not _readable(value):
            raise ValueError(
                f"should be a URL that begins with {' or '.join(f'{each}://' for each in schemes)}, "
                "has a host and optionally a port, and is percent-encoded where needed"
            )
        return value

    return AfterValidator(check)


def _readable(url: str) -> bool:
    """Return whether the drivers can parse the URL. Their own errors quote parts of it, possibly a password."""
    options: Mapping[str, Any] = {}
    try:
        if url.startswith("mongodb:"):
            options = parse_uri(url)["options"]
        elif url.startswith("mongodb+srv:") and "srv" not in urlsplit(url).query.lower():
            # without looking up its name; srvMaxHosts and the like need that
            options = parse_uri(url.replace("+srv", "", 1))["options"]
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
        raise ValueError(f"names a file in its options that cannot be read ({reason})") from None
    except (ValueError, PyMongoError) as error:
        if "@" in url.partition("?")[2]:  # the "option" is part of a password that is not percent-encoded
            return False
        if found := re.match(r"Unknown option: (\w+)", str(error)):
            raise ValueError(f"has the unknown option {found[1]}") from None
        if found := _OPTION_VALUE.fullmatch(str(error)):
            raise ValueError(f"has the option {found[1]}, which {found[2]}") from None
        return False
    except (KeyError, TypeError):  # PyMongo does not check all values of options itself
        raise ValueError("has an option with a value that is not valid") from None
    _check_tls_files(options)
    return "@" not in urlsplit(url).path  # a slash in a password that is not percent-encoded


def _check_tls_files(options: Mapping[str, Any]) -> None:
    """Raise ValueError for a file that PyMongo would report only when it connects, with an error of OpenSSL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if authorities := options.get("tlsCAFile"):
            context.load_verify_locations(authorities)
    except OSError:
        raise ValueError("has the option tlsCAFile, which should be a file of certificates in PEM") from None
    try:
        if revoked := options.get("tlscrlfile"):  # PyMongo returns only this one in lower case
            context.load_verify_locations(revoked)
    except OSError:
        raise ValueError("has the option tlsCRLFile, which should be a file of revoked certificates in PEM") from None
    try:
        if certificate := options.get("tlsCertificateKeyFile"):
            context.load_cert_chain(certificate, password=options.get("tlsCertificateKeyFilePassword") or "")
    except OSError:
        raise ValueError(
            "has the option tlsCertificateKeyFile, which should be a file in PEM with a certificate and its key, "
            "and which tlsCertificateKeyFilePassword opens if it is encrypted"
        ) from None


def _check_redis_url(value: str) -> str:
    parse_redis_url(value)
    return value


def _check_place(value: str) -> str:
    scheme, found, rest = value.partition("://")
    if found and (scheme not in {"file", "s3"} or not rest.strip("/")):
        raise ValueError("should be a path, or s3://bucket/prefix")
    return value


def _require_extra(value: str) -> str:
    modules = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
    if value == "otlp" and not all(_is_installed(module) for module in modules):
        raise ValueError("should be off unless the extra otel is installed (docs/operations.md, Traces)")
    return value


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def _matching(pattern: str, otherwise: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(otherwise)
        return value

    return AfterValidator(check)


def between(least: str, most: str) -> AfterValidator:
    """Limit a duration to a range, whose ends are written as settings are."""
    lowest, highest = _read_duration(least), _read_duration(most)

    def check(value: timedelta) -> timedelta:
        if not lowest <= value <= highest:
            raise ValueError(f"should be from {least} to {most}")
        return value

    return AfterValidator(check)


Duration = Annotated[timedelta, BeforeValidator(_read_duration)]
RedisUrl = Annotated[str, AfterValidator(_check_redis_url)]
MongoUrl = Annotated[str, _url_of("mongodb", "mongodb+srv")]
HttpUrl = Annotated[str, _url_of("http", "https")]
Place = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_check_place)]
"""A path or a bucket."""
Name = Annotated[str, Field(min_length=1, max_length=120), _matching(r"[^$\s\x00]+", "should have no spaces and no $")]
"""Name of a stream or consumer group."""
# https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
DatabaseName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    _matching(r'[^$\s\x00/\\."]+', 'should have no spaces and none of the characters $ / \\ . "'),
]
CollectionName = Annotated[
    str,
    Field(min_length=1, max_length=120),
    _matching(r"[^$\s\x00.]+(\.[^$\s\x00.]+)*", "should have no spaces, no $, and dots only between other characters"),
]
Traces = Annotated[Literal["off", "otlp"], AfterValidator(_require_extra)]
