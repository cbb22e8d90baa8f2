"""The clients of the two servers, one each per process, whose errors are made ours."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any

import pymongo
import redis
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import InvalidDocument
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    DocumentTooLarge,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
)
from pymongo.read_concern import ReadConcern
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.clock import Clock, as_utc
from worker.errors import BrokerUnavailable, SnapshotTooLarge, StoreConflict, StoreUnavailable, TransientError
from worker.settings import Settings
from worker.stores.redis_errors import name_of

Document = dict[str, Any]
_CLOCK_SECONDS = 2.0

# Servers report a document over 16 MiB in several places: BSONObjectTooLarge, an oversized group
# accumulator, an aggregation result, an insert. https://www.mongodb.com/docs/manual/reference/error-codes/
TOO_LARGE = frozenset({10334, 17419, 17420, 2, 16389, 5894901, 8678})
_EXCEEDED_MEMORY = 146  # $push may hold 100 MB; what goes beyond is text, since only messages are pushed
DURABLE = WriteConcern(w="majority", j=True)
# Dates beyond Python's years 1 to 9999 are valid BSON; DATETIME_AUTO gives those as DatetimeMS.
PLAIN: CodecOptions[Document] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument, tz_aware=True)


class Connections:
    """Lazy clients. Make one per process, after a fork, and close it at the end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.pid = os.getpid()
        self.clock = Clock(self._read_server_time)

    @cached_property
    def mongo(self) -> pymongo.MongoClient[Document]:
        """Majority and journaled writes; at most 4 connections, and one that watches each member.

        Polling: streaming needs two that watch. A fault of a command makes PyMongo look at once in both.
        """
        return pymongo.MongoClient(
            self.settings.mongo_url,
            appname="training-snapshots",
            w="majority",
            journal=True,
            read_preference=ReadPreference.PRIMARY,  # whatever the URL says: a member that lags knows too little
            maxPoolSize=4,
            serverMonitoringMode="poll",
            connectTimeoutMS=3000,
            serverSelectionTimeoutMS=3000,
            waitQueueTimeoutMS=5000,
            tz_aware=True,
            datetime_conversion=DatetimeConversion.DATETIME_AUTO,
            unicode_decode_error_handler="replace",
        )

    @cached_property
    def database(self) -> Database[Document]:
        """The platform's database, which is ours too."""
        return self.mongo[self.settings.mongo_database]

    @cached_property
    def raw_database(self) -> Database[RawBSONDocument]:
        """The same, whose documents are not decoded."""
        database: Database[Any] = self.mongo[self.settings.mongo_database]
        return database.with_options(codec_options=RAW)

    @cached_property
    def redis(self) -> "redis.Redis":
        """No retries: an XADD whose answer was lost would happen twice, an XREADGROUP would strand its batch."""
        return redis.Redis.from_url(
            self.settings.redis_url,
            socket_timeout=5,
            socket_connect_timeout=3,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            client_name=f"training-snapshots@{socket.gethostname()}",
        )

    def _read_server_time(self) -> datetime:
        with store_errors(), pymongo.timeout(_CLOCK_SECONDS):
            return as_utc(self.mongo.admin.command("hello", read_preference=ReadPreference.PRIMARY)["localTime"])

    def store_answers(self) -> bool:
        """Whether there is a primary that answers now."""
        try:
            self._read_server_time()
        except TransientError:
            return False
        return True

    @contextmanager
    def transaction(self) -> Iterator[ClientSession]:
        """One transaction, majority and journaled, committed at the end of the block, aborted by an exception.

        It is not tried again in here: whoever meets a StoreConflict loads the ledger again and decides anew.
        """
        with (
            store_errors(),
            self.mongo.start_session() as session,
            session.start_transaction(read_concern=ReadConcern("local"), write_concern=DURABLE),
        ):
            yield session

    def close(self) -> None:
        """Close what was opened."""
        for name in ("mongo", "redis"):
            if client := self.__dict__.pop(name, None):
                client.close()


@contextmanager
def store_errors() -> Iterator[None]:
    """Turns PyMongo's errors into StoreUnavailable, StoreConflict or SnapshotTooLarge."""
    try:
        yield
    except DocumentTooLarge as error:
        raise SnapshotTooLarge from error
    except WaitQueueTimeoutError as error:
        raise StoreConflict("MongoDB took too long: every connection of this process is in use.") from error
    except ExecutionTimeout as error:
        if "codeName" in (error.details or {}):
            raise StoreConflict("MongoDB took too long.") from error
        # Not the server's word but PyMongo's: less is left of pymongo.timeout() than a round trip takes. That is also
        # how its repetitions end while the server is away, at random instead of as an AutoReconnect.
        raise StoreUnavailable("MongoDB did not answer within the time that was left.") from error
    except (AutoReconnect, ConnectionFailure) as error:
        if error.has_error_label("TransientTransactionError") and error.timeout:
            raise StoreConflict("MongoDB took too long.") from error
        raise StoreUnavailable(f"MongoDB cannot be reached ({type(error).__name__}).") from error
    except InvalidDocument as error:
        # A document that BSON cannot hold; PyMongo also says so of one over 48 MiB.
        raise SnapshotTooLarge if "too large" in str(error) else StoreConflict from error
    except OperationFailure as error:
        raise _of_operation(error) from error
    except PyMongoError as error:
        raise StoreConflict(f"MongoDB's driver gave up ({type(error).__name__}).") from error


def _of_operation(error: OperationFailure) -> StoreUnavailable | StoreConflict | SnapshotTooLarge:
    named = (error.details or {}).get("codeName") or type(error).__name__
    if error.code == _EXCEEDED_MEMORY or (error.code in TOO_LARGE and "large" in f"{named} {error}".lower()):
        return SnapshotTooLarge()
    if error.has_error_label("RetryableWriteError") or error.code in (13, 18):  # Unauthorized, AuthenticationFailed
        return StoreUnavailable(f"MongoDB does not serve us ({named}).", code=error.code)
    return StoreConflict(f"MongoDB refused or aborted the operation ({named}).", code=error.code)


@contextmanager
def broker_errors() -> Iterator[None]:
    """Turns redis-py's errors into BrokerUnavailable, whose message has the kind, and no key's content."""
    try:
        yield
    except redis.RedisError as error:
        raise BrokerUnavailable(f"Redis cannot be used ({name_of(error)}).") from error
