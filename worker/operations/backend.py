"""The connections and threads of the operations pages in one API process.

They are separate from those of the API, so that a page delays no one who creates snapshots. An organization may occupy
at most half of the threads, and reads have a time limit, so that no organization delays another.
"""

import time
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import pymongo
from bson import ObjectId

from worker.api.container import Container
from worker.api.responses import HttpError
from worker.api.slots import Slots
from worker.api.threads import Threads
from worker.errors import TransientError
from worker.operations.data.login_links import LoginLinks
from worker.operations.data.overview import OverviewReader
from worker.operations.data.rejected_entries import RejectedEntries
from worker.operations.data.resubmission import Resubmission
from worker.operations.data.sessions import Sessions
from worker.operations.overview_cache import OverviewCache
from worker.service import Service
from worker.stores.connections import Connections

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

_READERS, _CHANGERS, _SESSION_THREADS, _OVERVIEW_THREADS = 4, 4, 2, 2
_SLOTS = 2
"""Maximum number of reads, and of changes, that an organization may have in progress at once."""
READ_SECONDS, COUNT_SECONDS = 2.0, 10.0
"""Time limits in seconds of a page, and of the count before a redrive."""


class TooSlow(HttpError):
    """The database took too long. Choose a shorter period, one organization, or an error code; or try again later."""

    code = "too_slow"
    status = 503


class Backend:
    """The resources of the pages in one API process. Connections are opened when they are first used."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self.settings = container.settings
        threads = _READERS + _CHANGERS + _SESSION_THREADS + _OVERVIEW_THREADS
        self.connections = Connections(container.settings, threads)
        self.service = Service(self.connections, container.service.publish)
        self.sessions = Sessions(self.connections)
        self.login_links = LoginLinks(self.connections)
        self.rejected_entries = RejectedEntries(self.connections)
        self.resubmission = Resubmission(self.service, self.rejected_entries)
        self._readers = Threads("operations-read", _READERS)
        self._changers = Threads("operations-change", _CHANGERS)
        self._session_threads = Threads("operations-session", _SESSION_THREADS)
        self._overview_threads = Threads("operations-overview", _OVERVIEW_THREADS)
        self._read_slots = Slots("operations pages", _SLOTS, max_wait=READ_SECONDS)
        self._change_slots = Slots("redrives or resubmissions", _SLOTS, max_wait=READ_SECONDS)
        self.overviews = OverviewCache(OverviewReader(self.connections), self._overview_threads)

    async def read(
        self, organization: ObjectId, function: Callable[[*Arguments], Result], *arguments: *Arguments
    ) -> Result:
        """Call a function that reads, in a thread, on behalf of this organization.

        Raises TooManyInProgress, TooSlow.
        """
        async with self._read_slots.hold(organization):
            return await self._readers.run(_within, READ_SECONDS, function, *arguments)

    async def change(
        self, organization: ObjectId, function: Callable[[*Arguments], Result], *arguments: *Arguments
    ) -> Result:
        """Call a function that changes something. Raises TooManyInProgress."""
        async with self._change_slots.hold(organization):
            return await self._changers.run(function, *arguments)

    async def count(
        self, organization: ObjectId, function: Callable[[*Arguments], Result], *arguments: *Arguments
    ) -> Result:
        """Call a function that counts the documents to change. Raises TooManyInProgress, TooSlow."""
        return await self.change(organization, _within, COUNT_SECONDS, function, *arguments)

    async def session(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Call a function of `sessions` or `login_links` in one of their own threads. Raises TooSlow."""
        return await self._session_threads.run(_within, READ_SECONDS, function, *arguments)

    def close(self) -> None:
        """Stop the threads and close the connections."""
        for threads in (self._readers, self._changers, self._session_threads, self._overview_threads):
            threads.close()
        self.connections.close()


def _within(seconds: float, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """Call the function with a time limit for MongoDB, after which the server stops working on it as well."""
    started = time.monotonic()
    try:
        with pymongo.timeout(seconds):
            return function(*arguments)
    except TransientError as error:
        if time.monotonic() - started < 0.9 * seconds:
            raise
        message = (
            f"The database did not answer within {seconds:g} s. "
            "Choose a shorter period, one organization, or an error code; or try again later."
        )
        raise TooSlow(message, headers={"Retry-After": "5"}) from error
