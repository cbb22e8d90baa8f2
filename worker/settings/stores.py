"""The settings that name MongoDB and Redis, and the collections and streams there."""

import re
from contextlib import suppress
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, Field, model_validator

from worker.redis_address.url import RedisAddress, parse_redis_url
from worker.settings.types import CollectionName, DatabaseName, MongoUrl, Name, RedisUrl

_TWO_DATABASES = (
    "SNAPSHOTS_MONGO_URL and SNAPSHOTS_MONGO_DATABASE specify different databases: set it in only one of them; "
    "if the user is defined in another database, add authSource to the URL"
)

_OTHER_KEYS = re.compile(
    r"snapshots|snapshots\..*|unacked.*|_kombu\..*|celery.*|.*\.celery\.pidbox"
    r"|snapshots:(marker|misplaced:.*|claim:.*|worker-alive|runs|rate:.*|pulse)"
)
"""Our keys in Redis that are not streams, and those of Celery and kombu. A worker moves a key of another type aside."""


class StoreSettings(BaseModel):
    """The servers, the database, its collections, and the streams, with their defaults."""

    redis_url: RedisUrl = Field(
        "redis://127.0.0.1:6379/0",
        description="Redis: broker and streams; `redis://`, `rediss://`, `unix://` or `sentinel://`",
    )
    mongo_url: MongoUrl = Field(
        "mongodb://127.0.0.1:27017/?replicaSet=rs0", description="MongoDB: a replica set; may name the database"
    )
    mongo_database: DatabaseName = Field(
        "messaging",
        description="database of the platform and of this service; if unset, the one that the URL names, if any",
    )

    contacts_collection: CollectionName = Field("contacts", description="the platform's contacts; read-only")
    users_collection: CollectionName = Field("users", description="the platform's users; read-only")
    conversations_collection: CollectionName = Field(
        "conversations", description="the platform's conversations; read-only, indexed"
    )
    messages_collection: CollectionName = Field("messages", description="the platform's messages; read-only, indexed")
    snapshots_collection: CollectionName = Field("trainingsnapshots", description="snapshots")
    requests_collection: CollectionName = Field("snapshotrequests", description="the ledger")
    outbox_collection: CollectionName = Field("snapshotoutbox", description="outcomes whose events may be unsent")
    policies_collection: CollectionName = Field(
        "snapshotpolicies", description="policies that decide which closings make a snapshot"
    )
    left_out_collection: CollectionName = Field(
        "snapshotleftout", description="closings for which no snapshot was made, with the reason"
    )
    keys_collection: CollectionName = Field("snapshotkeys", description="integration keys of the HTTP API, hashed")
    state_collection: CollectionName = Field(
        "snapshotstate", description="checkpoints, and sessions of the operations pages"
    )
    counts_collection: CollectionName = Field(
        "snapshotcounts", description="counts of the ledger by organization, kept up to date"
    )
    jobs_collection: CollectionName = Field("snapshotjobs", description="exports and other long tasks, with progress")
    exports_collection: CollectionName = Field(
        "snapshotexports", description="the snapshots selected by exports in progress"
    )
    erasures_collection: CollectionName = Field("snapshoterasures", description="tombstones of erased contacts, hashed")
    holds_collection: CollectionName = Field(
        "snapshotholds", description="legal holds: contacts that may not be erased"
    )
    create_source_indexes: bool = Field(
        True, description="create the indexes needed on the platform's messages and conversations"
    )

    requests_stream: Name = Field("snapshots:requests", description="intake stream, for producers in any language")
    rejected_stream: Name = Field("snapshots:rejected", description="rejected intake entries, with the reason")
    events_stream: Name = Field("snapshots:events", description="completion events")
    consumer_group: Name = Field("snapshots", description="the listeners' consumer group on the intake stream")

    @model_validator(mode="before")
    @classmethod
    def _take_database_from_url(cls, given: Any) -> Any:
        # A secret in a variable often ends with a line break.
        values = {name: value.strip() if isinstance(value, str) else value for name, value in given.items()}
        url, named = values.get("mongo_url"), None
        with suppress(ValueError):  # the URL's own check reports it
            named = _database_of(url) if isinstance(url, str) else None
        if named is None:
            return values
        if values.get("mongo_database", named) != named:
            raise ValueError(_TWO_DATABASES)
        return {**values, "mongo_database": named}

    @model_validator(mode="after")
    def _check_that_names_differ(self) -> Self:
        for kind in ("_collection", "_stream"):
            variables: dict[str, list[str]] = {}
            for field in StoreSettings.model_fields:
                if field.endswith(kind):
                    variables.setdefault(getattr(self, field), []).append(f"SNAPSHOTS_{field.upper()}")
            for value, same in variables.items():
                if len(same) > 1:
                    raise ValueError(f"{' and '.join(same)} have the same value, {value}: give each a different name")
        return self

    @model_validator(mode="after")
    def _check_that_streams_are_no_other_keys(self) -> Self:
        for field in StoreSettings.model_fields:
            if field.endswith("_stream") and _OTHER_KEYS.fullmatch(getattr(self, field)):
                raise ValueError(
                    f"SNAPSHOTS_{field.upper()} should not be the name of a queue or another key in Redis "
                    "(snapshots, snapshots.*, unacked*, _kombu.*, celery* and some snapshots:*)"
                )
        return self

    @property
    def redis(self) -> RedisAddress:
        """The address of Redis, parsed from `redis_url`."""
        return parse_redis_url(self.redis_url)


def _database_of(url: str) -> str | None:
    """Return the database that a MongoDB URL names. `admin` is where users are defined, so it names none of ours."""
    if not url.startswith("mongodb"):
        return None  # the URL's own check reports it
    name = unquote(urlsplit(url).path.lstrip("/")).partition(".")[0]
    return None if name in {"", "admin"} else name
