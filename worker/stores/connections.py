"""Connects to MongoDB and Redis, with one client each per process, and translates the drivers' errors."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

import pymongo
import redis
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import InvalidDocument
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import (
    ConfigurationError,
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
from worker.domain.source_fields import SourceFields
from worker.errors import BrokerUnavailable, SnapshotTooLarge, StoreConflict, StoreUnavailable, TransientError
from worker.settings import Settings
from worker.stores import mongo_errors, redis_errors

Document = dict[str, Any]
Result = TypeVar("Result")
_ATTEMPTS, _PAUSE_SECONDS = 5, 0.05
"""Attempts of a transaction that conflicts with another, and the pause after the first; it grows."""
_CLOCK_SECONDS = 8.0
_ANSWER_SECONDS = 5.0

# Servers report a document over 16 MiB under several codes: BSONObjectTooLarge, an oversized group accumulator, an
# aggregation result, an insert. https://www.mongodb.com/docs/manual/reference/error-codes/
TOO_LARGE = frozenset({10334, 17419, 17420, 2, 16389, 5894901, 8678})
_EXCEEDED_MEMORY = 146  # $push may hold 100 MB, and only messages are pushed
DURABLE = WriteConcern(w="majority", j=True)
# Dates beyond Python's years 1 to 9999 are valid BSON; DATETIME_AUTO gives those as DatetimeMS.
PLAIN: CodecOptions[Document] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)
RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument,
    tz_aware=True,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="replace",
)


class Connections:
    """Lazily created clients. Create one instance per process, after a fork, and close it at the end."""

    def __init__(self, settings: Settings, pool_size: int = 4) -> None:
        """`pool_size`: maximum number of connections to MongoDB. With one per thread, no thread waits for another."""
        self.settings = settings
        self.fields = SourceFields(settings)
        self._pool_size = pool_size
        self.clock = Clock(self._read_server_time)

    @cached_property
    def mongo(self) -> pymongo.MongoClient[Document]:
        """The MongoDB client: journaled majority writes, up to `pool_size` connections, and one monitor per member.

        The monitors poll, because streaming would need a second connection each. A failed command is noticed
        immediately either way.
        """
        return pymongo.MongoClient(
            self.settings.mongo_url,
            appname="training-snapshots",
            w="majority",
            journal=True,
            read_preference=ReadPreference.PRIMARY,  # overrides the URL: a secondary may lag
            connect=False,  # the first command connects; a mongodb+srv name is looked up then, not here
            maxPoolSize=self._pool_size,
            minPoolSize=0,  # overrides the URL: it must not be larger
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
        """The database of the platform and of this service."""
        return self.mongo[self.settings.mongo_database]

    @cached_property
    def raw_database(self) -> Database[RawBSONDocument]:
        """The same database, with documents that are not decoded."""
        database: Database[Any] = self.mongo[self.settings.mongo_database]
        return database.with_options(codec_options=RAW)

    @cached_property
    def redis(self) -> "redis.Redis":
        """The Redis client.

        It does not retry: a second XADD would add an entry twice, and a second XREADGROUP would leave the first one's
        entries pending and unread.
        """
        return self.settings.redis.client(
            socket_timeout=5,
            socket_connect_timeout=3,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            client_name=f"training-snapshots@{socket.gethostname()}",
        )

    def _read_server_time(self, seconds: float = _CLOCK_SECONDS) -> datetime:
        with store_errors(), pymongo.timeout(seconds):
            return as_utc(self.mongo.admin.command("hello", read_preference=ReadPreference.PRIMARY)["localTime"])

    def store_answers(self) -> bool:
        """Return whether MongoDB's primary answers now."""
        try:
            self._read_server_time(_ANSWER_SECONDS)
        except TransientError:
            return False
        return True

    @contextmanager
    def transaction(self) -> Iterator[ClientSession]:
        """Run the block in one transaction with write concern majority, journaled; an exception aborts it.

        It is not retried here: after a StoreConflict the caller has to load the ledger again and decide again.
        """
        with (
            store_errors(),
            self.mongo.start_session() as session,
            session.start_transaction(read_concern=ReadConcern("local"), write_concern=DURABLE),
        ):
            yield session

    def close(self) -> None:
        """Close the clients that were created."""
        for name in ("mongo", "redis"):
            if client := self.__dict__.pop(name, None):
                client.close()


def in_transaction(connections: Connections, work: Callable[[ClientSession], Result]) -> Result:
    """Return what `work` returns in one transaction, which is repeated if it conflicts with another one.

    Raises StoreUnavailable, and StoreConflict if it fails each time.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with connections.transaction() as session:
                return work(session)
        except StoreConflict:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE_SECONDS * (attempt + 1))
    raise AssertionError


@contextmanager
def store_errors() -> Iterator[None]:
    """Translate PyMongo's errors into StoreUnavailable, StoreConflict or SnapshotTooLarge."""
    try:
        yield
    except DocumentTooLarge as error:
        raise SnapshotTooLarge from error
    except WaitQueueTimeoutError as error:
        raise StoreConflict("MongoDB timed out: every connection of this process is in use.") from error
    except ExecutionTimeout as error:
        if "codeName" in (error.details or {}):
            raise StoreConflict("MongoDB timed out.") from error
        # Raised by PyMongo, not by the server: less time is left of pymongo.timeout() than a round trip takes. While
        # the server is unreachable, retries may also end with this error instead of AutoReconnect.
        raise StoreUnavailable("MongoDB did not answer in the time left.") from error
    except (ConnectionFailure, ConfigurationError) as error:
        raise _from_connection_failure(error) from error
    except InvalidDocument as error:
        # Not representable in BSON. PyMongo also raises it for a document over 48 MiB.
        raise SnapshotTooLarge if "too large" in str(error) else StoreConflict from error
    except OperationFailure as error:
        raise _from_operation_failure(error) from error
    except PyMongoError as error:
        raise StoreConflict(f"PyMongo failed ({type(error).__name__}).") from error


def _from_connection_failure(error: ConnectionFailure | ConfigurationError) -> StoreUnavailable | StoreConflict:
    """Translate a failed connection.

    A ConfigurationError is a mongodb+srv name that cannot be looked up, or a server that PyMongo cannot use.
    """
    if isinstance(error, ConnectionFailure) and error.has_error_label("TransientTransactionError") and error.timeout:
        return StoreConflict("MongoDB timed out.")
    return StoreUnavailable(f"MongoDB cannot be reached ({mongo_errors.VARIABLE}): {mongo_errors.reason_of(error)}.")


def _from_operation_failure(error: OperationFailure) -> StoreUnavailable | StoreConflict | SnapshotTooLarge:
    name = (error.details or {}).get("codeName") or type(error).__name__
    if error.code == _EXCEEDED_MEMORY or (error.code in TOO_LARGE and "large" in f"{name} {error}".lower()):
        return SnapshotTooLarge()
    if known := mongo_errors.rejection_of(error, name):
        return StoreUnavailable(f"{known}.", code=error.code)
    if error.has_error_label("RetryableWriteError"):
        return StoreUnavailable(f"MongoDB rejected the connection or command ({name}).", code=error.code)
    return StoreConflict(f"MongoDB rejected or aborted the operation ({name}).", code=error.code)


@contextmanager
def broker_errors() -> Iterator[None]:
    """Translate redis-py's errors into BrokerUnavailable. The message says why and quotes no data."""
    try:
        yield
    except redis.RedisError as error:
        raise BrokerUnavailable(redis_errors.explain(error)) from error
