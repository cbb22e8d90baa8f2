"""The objects that the endpoints of an API process share, created at startup and closed at shutdown."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TypeVar, TypeVarTuple

import structlog
from bson import ObjectId
from fastapi import Request

from worker.api.acceptor import Acceptor
from worker.api.batcher import pause_for
from worker.api.editor import Editor
from worker.api.enqueuer import Enqueuer
from worker.api.event_watch import EventWatch
from worker.api.exporter import Exporter
from worker.api.http_metrics import HttpMetrics
from worker.api.keys import PREFIX, Keys
from worker.api.limits import RateLimit, UnknownKeyLimit
from worker.api.lister import Lister
from worker.api.poller import OutcomePoller
from worker.api.reader import Reader
from worker.api.readiness import Readiness, RedisProbe
from worker.api.responses import TokenMissing
from worker.api.roles import Right, check_role
from worker.api.slots import Slots
from worker.api.threads import SharedCall, Threads
from worker.api.tokens import Caller, Tokens
from worker.domain.fair_shares import Allowance
from worker.domain.snapshot_filter import SnapshotFilter
from worker.errors import TransientError
from worker.jobs.store import Jobs
from worker.service import Service
from worker.statistics.figures import Statistics
from worker.statistics.measuring import Limits, measure
from worker.stores.connections import Connections

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

_GATHER_EACH, _GATHER_MAX = 0.0005, 0.02
"""How long to gather POSTs, in seconds: for each request in flight, and the maximum."""
_INTERACTIVE_PER_SECOND = 100
"""How many requests per organization and second go to the interactive queue. The others go to the bulk queue."""
_WRITERS = 4
_LISTERS = 8
"""Threads for lists and exports."""
_STATISTICS, _STATISTICS_OF_ONE = 2, 1
"""How many statistics may be computed at once: for all organizations, and for one."""
_STATISTICS_LIMITS = Limits(sample=1000, sample_seconds=4.0, count_seconds=10.0)
_JOB_THREADS, _JOB_THREADS_OF_ONE = 4, 2
"""Threads that accept, end and open exports, backfills and erasures, and how many of them one organization may occupy.
Such an operation may search a collection for documents that match a filter, or delete all files of an export."""
_LARGE_BODIES = 4
"""How many large request bodies of an organization are read at once. Each takes up to ten times its size in memory."""
_READERS, _KEY_CHECKERS, _UNKNOWN_KEY_CHECKERS, _PROBES = 4, 2, 1, 2
"""Threads for single snapshots, for integration keys, for keys that are not known to exist, and for readiness."""
_METRICS_READERS = 4
"""How many threads of the metrics read from MongoDB at once (`worker.metrics.system`)."""
_SINGLE_OF_ONE = 2
"""How many single snapshots of an organization are read at once, and how many are edited or deleted. One may have
16 MB, which take a second to encode."""


class Container:
    """The objects that the endpoints use.

    Writes, lists, jobs and short reads have separate MongoDB clients with a connection for each of their threads.
    Single snapshots, keys and readiness, which are short reads, also have separate threads, so that no costly operation
    delays them.
    """

    def __init__(self, service: Service) -> None:
        """Raises InvalidSettings if the settings do not say how to verify tokens."""
        settings = service.settings
        self.settings = settings
        self.service = service
        self.tokens = Tokens(settings)
        self._at_close = ExitStack()  # closes in reverse order: threads before the connections that they use
        self._at_close.callback(service.connections.close)

        self.connections = self._connected(_READERS + _KEY_CHECKERS + _UNKNOWN_KEY_CHECKERS + _PROBES)
        self._list_connections = self._connected(_LISTERS + _STATISTICS)
        self._job_connections = self._connected(_JOB_THREADS + _READERS)
        self._metrics_connections = self._connected(_METRICS_READERS)

        self.writers = self._threads("writer", _WRITERS)
        self.readers = self._threads("reader", _READERS)
        self.listers = self._threads("lister", _LISTERS)
        self.statisticians = self._threads("statistics", _STATISTICS)
        self.key_checkers = self._threads("key", _KEY_CHECKERS)
        self._unknown_key_checkers = self._threads("unknown-key", _UNKNOWN_KEY_CHECKERS)
        self.probes = self._threads("probe", _PROBES)
        self.scrapers = self._threads("scraper", 1)
        self.parsers = self._threads("parser", 1)
        self._job_threads = self._threads("job", _JOB_THREADS)
        self._redis_threads = self._threads("redis", 2)

        self.body_slots = Slots("large request bodies", _LARGE_BODIES, max_wait=5.0)
        self.read_slots = Slots("reads of single snapshots", _SINGLE_OF_ONE, max_wait=5.0)
        self.edit_slots = Slots("changes of snapshots", _SINGLE_OF_ONE, max_wait=5.0)
        self.list_slots = Slots("lists", settings.api_lists)
        self.export_slots = Slots("export downloads", settings.api_exports)
        self.statistics_slots = Slots("statistics", _STATISTICS_OF_ONE)
        self._job_slots = Slots("operations on exports, backfills or erasures", _JOB_THREADS_OF_ONE, max_wait=5.0)

        self.keys = Keys(self.connections)
        self._list_keys = SharedCall(lambda: self.key_checkers.run(self.keys.read_list))
        self._unknown_keys = UnknownKeyLimit()
        self.rate_limit = RateLimit(settings, self._redis_threads.executor)

        self.reader = Reader(self.connections)
        self.lister = Lister(self._list_connections)
        self.editor = Editor(service)
        job_service = Service(self._job_connections, service.publish)
        self.jobs = Jobs(job_service)
        self.exporter = Exporter(job_service)

        self.event_watch = EventWatch(settings)
        self.poller = OutcomePoller(service, self.writers.executor, self.event_watch)
        self.enqueuer = Enqueuer(service, self._redis_threads.executor, self.poller.awaited)
        self.accept = Acceptor(service, self.writers.executor, self._gather_seconds, self.enqueuer.enqueue)
        self.allowance = Allowance(_INTERACTIVE_PER_SECOND)

        self.metrics = HttpMetrics(self._metrics_connections)
        self.render_metrics = SharedCall(lambda: self.scrapers.run(self.metrics.text))
        self._probe_redis = RedisProbe(settings)
        self.check_readiness = SharedCall(self._check_readiness)

    def _connected(self, threads: int) -> Connections:
        """Create a MongoDB client with a connection for each of this many threads."""
        connections = Connections(self.settings, threads)
        self._at_close.callback(connections.close)
        return connections

    def _threads(self, name: str, count: int) -> Threads:
        threads = Threads(name, count)
        self._at_close.callback(threads.close)
        return threads

    async def measure(self, organization: ObjectId, selected: SnapshotFilter) -> Statistics:
        """Measure an organization's snapshots in a thread, within the limits of the API: a sample of 1,000 snapshots.

        Raises StatisticsTooSlow, StoreUnavailable, StoreConflict.
        """
        return await self.statisticians.run(measure, self._list_connections, organization, selected, _STATISTICS_LIMITS)

    async def operate_on_jobs(
        self, organization: ObjectId, function: Callable[[*Arguments], Result], *arguments: *Arguments
    ) -> Result:
        """Call a function that accepts, ends or opens a job of this organization, in a thread.

        Raises TooManyInProgress, and the errors of the function.
        """
        async with self._job_slots.hold(organization):
            return await self._job_threads.run(function, *arguments)

    async def _check_readiness(self) -> Readiness:
        mongo, (broker, workers) = await asyncio.gather(
            self.probes.run(self.connections.store_answers), self.probes.run(self._probe_redis)
        )
        return Readiness(mongo, broker, workers)

    def _gather_seconds(self) -> float:
        return pause_for(self.poller.awaited(), _GATHER_EACH, _GATHER_MAX)

    async def admit(self, request: Request, right: Right) -> Caller:
        """Authenticate the caller by the header `Authorization: Bearer`, and check that its role has a right.

        Raises:
            Unauthorized: The header is missing, or the token is expired or not valid. The message says why.
            RateLimited: The user has used up the requests of this minute; `Retry-After` says how long to wait.
            Forbidden: The role does not have the right. The message names the roles that do.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise TokenMissing
        return await self.admit_token(request, token, right)

    async def admit_token(self, request: Request, token: str, right: Right) -> Caller:
        """Do what `admit` does, for a token or integration key that did not come in the header, but in a form."""
        if token.startswith(PREFIX):
            caller = await self._owner_of(token, request.client.host if request.client else "")
        else:
            caller = self.tokens.verify(token)
        return await self.admit_caller(caller, right)

    async def admit_caller(self, caller: Caller, right: Right) -> Caller:
        """Count a request of a caller who is authenticated already, and check that its role has a right.

        Raises RateLimited, Forbidden.
        """
        structlog.contextvars.bind_contextvars(organization_id=str(caller.organization))
        await self.rate_limit(caller)
        check_role(caller.role, right)
        return caller

    async def _owner_of(self, key: str, address: str) -> Caller:
        """Verify an integration key. Raises TokenInvalid, TokenExpired, RateLimited, StoreUnavailable."""
        if caller := self.keys.known(key):
            return caller
        if self.keys.has_old_list:
            with suppress(TransientError):  # the key itself may be found although the list cannot be read
                await self._list_keys()
        if self.keys.is_listed(key):
            return await self.key_checkers.run(self.keys.find, key)
        with self._unknown_keys.attempt(address):
            return await self._unknown_key_checkers.run(self.keys.find, key)

    def on_close(self, close: Callable[[], None]) -> None:
        """Register a function to call when the container closes, before its own connections close."""
        self._at_close.callback(close)

    def close(self) -> None:
        """Call what was registered, stop the threads, then close the connections."""
        self._at_close.close()
        self.rate_limit.close()


def container_of(request: Request) -> Container:
    """Return the container of the app that serves this request."""
    container: Container = request.app.state.container
    return container
