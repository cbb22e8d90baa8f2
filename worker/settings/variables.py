"""The settings. No other module reads one from the environment.

Each field is the environment variable `SNAPSHOTS_` followed by its name in capitals, or a file of that name in the
secrets directory. docs/settings.md is generated from the descriptions here.
"""

import os
import re
import signal
from datetime import timedelta
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource, SettingsConfigDict

from worker.errors import InvalidSettings
from worker.settings import secret_files
from worker.settings.field_mapping import FieldSettings
from worker.settings.secret_files import PREFIX
from worker.settings.stores import StoreSettings
from worker.settings.types import Duration, File, HttpUrl, Place, Traces, between

# Kubernetes defines these for a Service whose name begins with snapshots-, and Docker for a linked container.
_OF_SERVICES = re.compile(r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?$")
_OTHER_VARIABLES = ["SECRETS_DIR", "VERSION"]
"""Variables that are not settings: SECRETS_DIR is read below, and VERSION names the image in docker-compose.yml."""


class Settings(FieldSettings, StoreSettings, BaseSettings):
    """All settings with their defaults. The base classes have those that name stores and fields.

    The description of each field is its documentation: the tables in docs/settings.md and docs/data.md are generated
    from it. Instances are immutable. Create them with `load` or `settings`, which report every invalid variable at
    once.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    max_notes_length: int = Field(10_000, ge=0, le=1_000_000, description="maximum characters of notes")
    max_tags: int = Field(50, ge=0, le=10_000, description="maximum tags per request")
    max_tag_length: int = Field(100, ge=1, le=1_000, description="maximum characters per tag")
    max_label_length: int = Field(100, ge=1, le=1_000, description="maximum characters of quality and of category")
    max_message_ids: int = Field(10_000, ge=1, le=200_000, description="maximum message ids per request")
    max_entry_bytes: int = Field(
        1_048_576,
        ge=1024,
        le=16_777_216,
        description="maximum bytes of an intake entry, or of a request to a Celery task",
    )

    chunk_size: int = Field(200, ge=1, le=500, description="maximum requests per Celery message")
    chunk_bytes: int = Field(
        8_000_000, ge=100_000, le=100_000_000, description="maximum bytes of snapshots written in one transaction"
    )
    run_deadline: Annotated[Duration, between("1s", "10m")] = Field(
        timedelta(seconds=10), description="maximum time to process one Celery message"
    )
    retry_attempts: int = Field(8, ge=1, le=100, description="attempts per request; outages and waits do not count")
    retry_floor: Duration = Field(timedelta(seconds=1), description="shortest wait before a retry")
    retry_ceiling: Duration = Field(timedelta(seconds=30), description="longest wait before a retry; at most 30s")
    parent_wait: Duration = Field(
        timedelta(seconds=60), description="how long to wait for a contact or conversation that does not exist yet"
    )
    # A chunk's requests share its first two deliveries; only from the third on does each run alone.
    worker_lost_after: int = Field(5, ge=3, le=100, description="crashes before a request fails as `worker_lost`")
    sweep_interval: Annotated[Duration, between("0.1s", "1h")] = Field(
        timedelta(seconds=5), description="interval between sweeps"
    )
    listener_idle: Annotated[Duration, between("0.1s", "1h")] = Field(
        timedelta(seconds=15),
        description="idle time after which a listener's pending entries are taken over by another",
    )
    settle_seconds: float = Field(
        30,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="delay between a closing and its snapshot: a number of seconds, without a unit",
    )
    reconcile_interval: Annotated[Duration, between("0.1s", "24h")] = Field(
        timedelta(minutes=5), description="interval between searches for missed closings"
    )
    events_retention: Annotated[Duration, between("1s", "36500d")] = Field(
        timedelta(days=7), description="age at which events are trimmed"
    )
    ledger_retention: Annotated[Duration, between("1s", "36500d")] = Field(
        timedelta(days=90), description="age at which finished requests are stripped to their key and outcome"
    )

    exports_url: Place | None = Field(
        None,
        description="folder, or `s3://bucket/prefix`, for exports; all workers and API processes use it",
    )
    exports_split_key: SecretStr | None = Field(
        None, description="secret key of the split by person; with another key, people may move to other splits"
    )

    erasure_key: SecretStr | None = Field(
        None,
        min_length=16,
        description="key that hashes erased contacts, at least 16 characters, the same in all processes; "
        "keep it, because with another key nothing is accepted",
    )

    erasure_signing_key: File | None = Field(
        None,
        description="PEM file with the Ed25519 key that signs receipts of erasures; `snapshots erase keys` makes it",
    )
    erasure_log: Place | None = Field(
        None,
        description="file, or `s3://bucket/prefix`, outside the database with all tombstones; "
        "they are applied again after a restore",
    )
    backup_horizon: Duration = Field(
        timedelta(days=30), description="how long backups are kept, for the receipts of erasures"
    )

    jwt_secret: SecretStr | None = Field(None, description="secret for tokens signed with HS256, at least 32 bytes")
    jwt_public_key: File | None = Field(
        None, description="PEM file with the public key for tokens signed with RS256 or ES256"
    )
    jwt_jwks: File | None = Field(None, description="JWKS file for tokens signed with RS256 or ES256")
    jwt_leeway: Annotated[Duration, between("0", "5m")] = Field(
        timedelta(seconds=5), description="how far `iat` or `nbf` may be in the future"
    )
    jwt_issuer: str | None = Field(None, description="required `iss` of a token")
    jwt_audience: str | None = Field(None, description="required `aud` of a token")
    api_host: str = Field("127.0.0.1", min_length=1, description="address that the HTTP API listens on")
    api_port: int = Field(8000, ge=0, le=65_535, description="port of the HTTP API; 0 picks a free one")
    api_wait: Duration = Field(timedelta(seconds=10), description="how long a POST waits for its snapshot")
    api_rate_limit: int = Field(600, ge=0, description="HTTP requests per minute and user; 0 means no limit")
    api_max_body: int = Field(1_048_576, ge=1024, le=16_777_216, description="maximum bytes of an HTTP request body")

    api_max_connections: int = Field(1000, ge=8, le=100_000, description="maximum HTTP connections per process")
    api_lists: int = Field(
        2, ge=1, le=8, description="maximum lists in progress per organization and process; more get 429"
    )
    api_exports: int = Field(
        2,
        ge=1,
        le=8,
        description="maximum export downloads in progress per organization and process; more get 429",
    )

    flower_url: HttpUrl | None = Field(
        None, description="Flower's address as operators reach it, used to link to tasks"
    )
    operations_url: HttpUrl | None = Field(
        None,
        description="address of the operations pages as operators reach it (`https://.../operations`), "
        "used by Flower and `snapshots login` for links",
    )

    metrics_host: str = Field("127.0.0.1", description="address on which worker, beat and listener serve /metrics")
    metrics_port: int | None = Field(
        None, ge=0, le=65_535, description="port for /metrics; 0 picks a free one, unset means none"
    )

    traces: Traces = Field("off", description="otlp: export OpenTelemetry traces; needs the extra otel")
    traces_url: HttpUrl = Field("http://127.0.0.1:4318/v1/traces", description="OTLP endpoint (HTTP)")

    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, JSON otherwise"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="minimum level that is logged")

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if not timedelta(0) < self.retry_floor <= self.retry_ceiling <= timedelta(seconds=30):
            raise ValueError(
                f"{PREFIX}RETRY_FLOOR should be above 0 and at most {PREFIX}RETRY_CEILING, which should be at most 30s"
            )
        if self.ledger_retention <= self.events_retention:
            raise ValueError(f"{PREFIX}LEDGER_RETENTION should be longer than {PREFIX}EVENTS_RETENTION")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the secrets directory after the environment. The other sources are not used."""
        return init_settings, env_settings, SecretsSettingsSource(settings_cls, secret_files.directory())

    @model_validator(mode="before")
    @classmethod
    def _ignore_service(cls, values: Any) -> Any:
        """Ignore the API's port if Kubernetes has set the variable, for a Service named `snapshots-api`."""
        if str(values.get("api_port")).startswith("tcp://"):
            return {name: value for name, value in values.items() if name != "api_port"}
        return values

    @property
    def lost_after(self) -> timedelta:
        """How long after its publication a wake-up counts as lost if it is older than all messages in the queue.

        The run deadline plus 5 s. A run that waits for MongoDB may last longer, which costs one redundant wake-up.
        """
        return self.run_deadline + timedelta(seconds=5)


def load(**values: Any) -> Settings:
    """Read the settings from the environment and, where it lacks a variable, from the secrets directory.

    Args:
        **values: Settings by field name, such as `mongo_url`, which override both.

    Returns:
        The settings, validated. Unknown variables are ignored; `unknown_variables` lists them.

    Raises:
        InvalidSettings: Names each faulty variable or file and what it should be, but never its value, because that may
            be a password.

    Example:
        own = load(redis_url="redis://127.0.0.1:6380/0", chunk_size=50)
    """
    own = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    if odd := [f"{name}: {fault}" for name, value in own.items() if (fault := secret_files.fault_of(value))]:
        raise InvalidSettings("; ".join(odd))
    if not hasattr(signal, os.environ.get("REMAP_SIGTERM") or "SIGTERM"):  # Celery would print a traceback
        raise InvalidSettings("REMAP_SIGTERM: should be SIGQUIT, or unset")
    named = os.environ.get(f"{PREFIX}SECRETS_DIR")
    if named and not Path(named).is_dir():
        raise InvalidSettings(f"{PREFIX}SECRETS_DIR names {named}, which is not a directory")
    try:
        secret_files.check(Settings.model_fields)
        return Settings(**values)
    except OSError as error:
        is_secret = str(error.filename).startswith(str(secret_files.directory()))
        hint = f"; see {PREFIX}SECRETS_DIR" if is_secret else ", which a setting or another variable names"
        raise InvalidSettings(f"{error.filename} cannot be read ({error.strerror}){hint}") from None
    except ValidationError as error:
        faults = [
            f"{PREFIX}{'_'.join(str(part) for part in each['loc']).upper()}: {_fault_text(each['msg'])}"
            if each["loc"]
            else _fault_text(each["msg"])
            for each in error.errors(include_input=False, include_url=False)
        ]
        raise InvalidSettings("; ".join(faults)) from None


def unknown_variables() -> list[tuple[str, str | None]]:
    """Find variables and secret files that begin with SNAPSHOTS_ but are not settings, which are probably misspelt.

    Returns:
        Pairs of such a name and the setting with the most similar name, or None if no name is similar.
    """
    known = [name.upper() for name in Settings.model_fields] + _OTHER_VARIABLES
    given = {*os.environ, *map(str.upper, secret_files.names())}
    names = [name.removeprefix(PREFIX) for name in sorted(given) if name.startswith(PREFIX)]
    unknown = [name for name in names if name not in known and not _OF_SERVICES.search(name)]
    nearest = {name: next(iter(get_close_matches(name, known, n=1)), None) for name in unknown}
    return [(f"{PREFIX}{name}", near and f"{PREFIX}{near}") for name, near in nearest.items()]


def _fault_text(message: str) -> str:
    text = re.sub(r", unable to (parse string as an? \w+|interpret input)$", "", message)
    text = text.replace("a valid boolean", "true or false")
    text = re.sub(r"^(Value error, |(Input|String|Value) (?=should))", "", text)
    return re.sub(r" items? after validation, not \d+$", " characters", text)


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process, which are read from the environment once.

    Raises InvalidSettings as `load` does.
    """
    return load()
