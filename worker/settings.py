"""The settings: the only reader of the environment.

Every field is the environment variable `SNAPSHOTS_` + its name in capitals; `docs` and the README's
table are made from the descriptions here.
"""

import re
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from worker.errors import InvalidSettings

PREFIX = "SNAPSHOTS_"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _read_duration(value: Any) -> Any:
    """`90d`, `12h`, `30m`, `45s`, or a number of seconds."""
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", value.strip())):
        with suppress(OverflowError):
            return timedelta(**{_UNITS[found[2] or "s"]: float(found[1])})
    if isinstance(value, timedelta):
        return value
    raise ValueError("should be a duration such as 45s, 30m, 12h, 90d, or a number of seconds")


def _url_of(*schemes: str) -> AfterValidator:
    def check(value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in schemes or not parts.netloc or not _readable(value):
            raise ValueError(
                f"should be a URL that begins with {' or '.join(f'{each}://' for each in schemes)}, "
                "has a host and perhaps a port, and what else it holds percent-encoded"
            )
        return value

    return AfterValidator(check)


def _readable(url: str) -> bool:
    """Whether the drivers will read it. Their own errors repeat parts of it, a password perhaps."""
    try:
        if url.startswith("mongodb:"):
            parse_uri(url)
        elif url.startswith("redis"):
            int(urlsplit(url).port or 0)
    except (ValueError, PyMongoError):
        return False
    return True


def _with_the_extra(value: str) -> str:
    parts = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
    if value == "otlp" and not all(_is_installed(each) for each in parts):
        raise ValueError("should be off, or the extra otel should be installed (docs/operations.md, Traces)")
    return value


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # what it is a part of
        return False


Duration = Annotated[timedelta, BeforeValidator(_read_duration)]
RedisUrl = Annotated[str, _url_of("redis", "rediss")]
MongoUrl = Annotated[str, _url_of("mongodb", "mongodb+srv")]
HttpUrl = Annotated[str, _url_of("http", "https")]
Name = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[^$\s\x00]+$")]
"""Of a stream or a consumer group."""
# https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
DatabaseName = Annotated[str, Field(min_length=1, max_length=63, pattern=r'^[^$\s\x00/\\."]+$')]
CollectionName = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[^$\s\x00.]+(\.[^$\s\x00.]+)*$")]


class Settings(BaseSettings):
    """What can be set, and what is taken otherwise."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    redis_url: RedisUrl = Field("redis://127.0.0.1:6379/0", description="broker and streams")
    mongo_url: MongoUrl = Field("mongodb://127.0.0.1:27017/?replicaSet=rs0", description="a replica set")
    mongo_database: DatabaseName = Field("messaging", description="the platform's database, and ours")

    contacts_collection: CollectionName = Field("contacts", description="of the platform, only read")
    users_collection: CollectionName = Field("users", description="of the platform, only read")
    conversations_collection: CollectionName = Field("conversations", description="of the platform, only read; indexed")
    messages_collection: CollectionName = Field("messages", description="of the platform, only read; indexed")
    snapshots_collection: CollectionName = Field("trainingsnapshots", description="the snapshots")
    requests_collection: CollectionName = Field("snapshotrequests", description="the ledger")
    policies_collection: CollectionName = Field("snapshotpolicies", description="which closings make a snapshot")
    left_out_collection: CollectionName = Field("snapshotleftout", description="closings without a snapshot, and why")
    keys_collection: CollectionName = Field("snapshotkeys", description="integration keys of the HTTP surface, hashed")
    state_collection: CollectionName = Field("snapshotstate", description="small facts of the sweep and the listener")
    create_source_indexes: bool = Field(True, description="create the indexes that reading those two needs")

    requests_stream: Name = Field("snapshots:requests", description="intake, any language")
    rejected_stream: Name = Field("snapshots:rejected", description="refused intake entries, with the reason")
    events_stream: Name = Field("snapshots:events", description="completion events")
    consumer_group: Name = Field("snapshots", description="the listeners' group on the intake stream")

    max_notes_length: int = Field(10_000, ge=0, le=1_000_000, description="characters of notes")
    max_tags: int = Field(50, ge=0, le=10_000, description="tags of a request")
    max_tag_length: int = Field(100, ge=1, le=1_000, description="characters of a tag")
    max_label_length: int = Field(100, ge=1, le=1_000, description="characters of quality and of category")
    max_message_ids: int = Field(10_000, ge=1, le=200_000, description="message ids of a request")

    chunk_size: int = Field(200, ge=1, le=500, description="requests that one Celery message names at most")
    chunk_bytes: int = Field(8_000_000, ge=100_000, le=100_000_000, description="snapshots written together, in bytes")
    run_deadline: Duration = Field(timedelta(seconds=10), description="the longest run of one Celery message")
    retry_attempts: int = Field(8, ge=1, le=100, description="attempts while the stores are up")
    retry_floor: Duration = Field(timedelta(seconds=1), description="the shortest wait before a retry")
    retry_ceiling: Duration = Field(timedelta(seconds=30), description="the longest wait before a retry; 30s at most")
    parent_wait: Duration = Field(timedelta(seconds=60), description="how long a missing contact is waited for")
    # The first two deliveries of a chunk end together with its neighbours; only from the third on is one alone.
    worker_lost_after: int = Field(5, ge=3, le=100, description="deliveries that ended their worker")
    sweep_interval: Duration = Field(timedelta(seconds=5), description="between two sweeps")
    listener_idle: Duration = Field(timedelta(seconds=15), description="until a dead listener's entries are taken over")
    settle_seconds: float = Field(
        30, ge=0, le=86_400, allow_inf_nan=False, description="from a closing to its snapshot"
    )
    reconcile_interval: Duration = Field(timedelta(minutes=5), description="between two looks for missed closings")
    events_retention: Duration = Field(timedelta(days=7), description="age at which events are trimmed")
    ledger_retention: Duration = Field(timedelta(days=90), description="age at which finished requests are stripped")

    jwt_secret: SecretStr | None = Field(None, description="of tokens signed with HS256, 32 bytes or more; no default")
    jwt_public_key: Path | None = Field(None, description="PEM file, for tokens signed with RS256 or ES256")
    jwt_jwks: Path | None = Field(None, description="JWKS file, for tokens signed with RS256 or ES256")
    jwt_issuer: str | None = Field(None, description="what `iss` of a token has to be")
    jwt_audience: str | None = Field(None, description="what `aud` of a token has to be")
    api_host: str = Field("127.0.0.1", description="address that the HTTP surface listens on")
    api_port: int = Field(8000, ge=0, le=65_535, description="its port; 0 takes a free one")
    api_wait: Duration = Field(timedelta(seconds=10), description="how long a POST waits for its snapshot")
    api_rate_limit: int = Field(600, ge=0, description="HTTP requests of a token in a minute; 0 is no limit")
    api_max_body: int = Field(1_048_576, ge=1024, le=16_777_216, description="bytes of an HTTP request's body")

    flower_url: HttpUrl | None = Field(None, description="Flower's address as operators reach it, for links to tasks")

    metrics_host: str = Field("127.0.0.1", description="address that worker, beat and listener serve /metrics on")
    metrics_port: int | None = Field(None, ge=0, le=65_535, description="its port, 0 takes a free one; not set, none")

    traces: Annotated[Literal["off", "otlp"], AfterValidator(_with_the_extra)] = Field(
        "off", description="otlp: OpenTelemetry, which needs the extra otel"
    )
    traces_url: HttpUrl = Field("http://127.0.0.1:4318/v1/traces", description="where OTLP is taken over HTTP")

    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto: console on a terminal")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="the least that is logged")

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if not timedelta(0) < self.retry_floor <= self.retry_ceiling <= timedelta(seconds=30):
            raise ValueError(f"{PREFIX}RETRY_FLOOR should be above 0 and up to {PREFIX}RETRY_CEILING, that up to 30s")
        if self.ledger_retention <= self.events_retention:
            raise ValueError(f"{PREFIX}LEDGER_RETENTION should be longer than {PREFIX}EVENTS_RETENTION")
        if not timedelta(seconds=1) <= self.run_deadline <= timedelta(minutes=10):
            raise ValueError(f"{PREFIX}RUN_DEADLINE should be from 1s to 10m")
        if not timedelta(seconds=0.1) <= self.sweep_interval <= timedelta(hours=1):
            raise ValueError(f"{PREFIX}SWEEP_INTERVAL should be from 0.1s to 1h")
        if not timedelta(seconds=0.1) <= self.reconcile_interval <= timedelta(hours=24):
            raise ValueError(f"{PREFIX}RECONCILE_INTERVAL should be from 0.1s to 24h")
        return self

    @property
    def lost_after(self) -> timedelta:
        """G of the design: a request whose wake-up is older than this and than all that wait is lost.

        A run, and 5 s. A wrong guess, where a run outlasts it because it waits for MongoDB, costs a wake-up more.
        """
        return self.run_deadline + timedelta(seconds=5)


def load(**values: Any) -> Settings:
    """Settings from the environment.

    Raises InvalidSettings that names each variable, what it should be, and never its value (it may be a password).
    """
    try:
        return Settings(**values)
    except ValidationError as error:
        faults = [
            f"{PREFIX}{'_'.join(str(part) for part in each['loc']).upper()}: {_said(each['msg'])}"
            if each["loc"]
            else _said(each["msg"])
            for each in error.errors(include_input=False, include_url=False)
        ]
        raise InvalidSettings("; ".join(faults)) from None


def _said(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should", "should")


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return load()
