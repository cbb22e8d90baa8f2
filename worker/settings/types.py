"""The types of settings: how the text of a variable is read, which values are allowed, and the message for others.

A message continues the name of the variable, as in `SNAPSHOTS_RUN_DEADLINE: should be a duration`. It never quotes the
value, which may contain a password.
"""

import re
from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from worker.redis_address.url import parse_redis_url
from worker.settings.mongo_url import is_readable

_MAX_DATABASE_BYTES = 63
_DATABASES_OF_MONGODB = ("admin", "config", "local")
# https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
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
        if not _is_url(value, schemes) or (value.startswith("mongodb") and not is_readable(value)):
            raise ValueError(
                f"should be a URL that begins with {' or '.join(f'{each}://' for each in schemes)}, "
                "has a host and optionally a port, and is percent-encoded where needed"
            )
        return value

    return AfterValidator(check)


def _is_url(value: str, schemes: Collection[str]) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:  # a bracket that is not closed
        return False
    return parts.scheme in schemes and bool(parts.netloc)


def _check_redis_url(value: str) -> str:
    parse_redis_url(value)
    return value


def _check_place(value: str) -> str:
    scheme, found, rest = value.partition("://")
    if found and (scheme not in {"file", "s3"} or not rest.strip("/")):
        raise ValueError("should be a path, or s3://bucket/prefix")
    return value


def _check_file_name(value: Path) -> Path:
    """Refuse a key or certificate in place of the name of its file: an error message would print the name."""
    text = str(value)
    if "-----BEGIN" in text or text.lstrip().startswith("{") or re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError("should be the path of a file, not its content")
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


def _check_database_name(value: str) -> str:
    if len(value.encode()) > _MAX_DATABASE_BYTES:
        raise ValueError(f"should have at most {_MAX_DATABASE_BYTES} bytes in UTF-8")
    if value in _DATABASES_OF_MONGODB:
        names = ", ".join(_DATABASES_OF_MONGODB)
        raise ValueError(f"should not be one of MongoDB's own databases ({names}), here or in SNAPSHOTS_MONGO_URL")
    return value


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
File = Annotated[Path, AfterValidator(_check_file_name)]
Place = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_check_place)]
"""A path or a bucket."""
Name = Annotated[str, Field(min_length=1, max_length=120), _matching(r"[^$\s\x00]+", "should have no spaces and no $")]
"""Name of a stream or consumer group."""
DatabaseName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    _matching(r'[^$\s\x00/\\."]+', 'should have no spaces and none of the characters $ / \\ . "'),
    AfterValidator(_check_database_name),
]
CollectionName = Annotated[
    str,
    Field(min_length=1, max_length=120),
    _matching(r"[^$\s\x00.]+(\.[^$\s\x00.]+)*", "should have no spaces, no $, and dots only between other characters"),
    _matching(r"(?!system\.).*", "should not begin with system., which is reserved by MongoDB"),
]
Traces = Annotated[Literal["off", "otlp"], AfterValidator(_require_extra)]
