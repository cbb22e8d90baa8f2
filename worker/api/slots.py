"""Limits how many costly operations of an organization are in progress, so that it does not delay the others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bson import ObjectId

from worker.api.responses import TooManyInProgress


@dataclass(slots=True)
class _Organization:
    semaphore: asyncio.Semaphore
    users: int = field(default=0)
    """How many operations hold a slot or wait for one."""


class Slots:
    """A limited number of slots for each organization.

    If none is free, waits for a moment, so that short bursts pass.
    """

    def __init__(self, operations: str, limit: int, max_wait: float = 1.0) -> None:
        """`operations`: their name in the error message. `limit`: slots per organization. `max_wait`: seconds."""
        self._operations = operations
        self._limit = limit
        self._max_wait = max_wait
        self._organizations: dict[ObjectId, _Organization] = {}

    @asynccontextmanager
    async def hold(self, organization: ObjectId) -> AsyncIterator[None]:
        """Hold a slot during the block. Raises TooManyInProgress if none becomes free."""
        if (slots := self._organizations.get(organization)) is None:
            slots = self._organizations[organization] = _Organization(asyncio.Semaphore(self._limit))
        slots.users += 1
        try:
            await self._acquire(slots.semaphore)
            try:
                yield
            finally:
                slots.semaphore.release()
        finally:
            slots.users -= 1
            if not slots.users:
                del self._organizations[organization]

    async def _acquire(self, semaphore: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._max_wait):
                await semaphore.acquire()
        except TimeoutError:
            message = (
                f"The organization has {self._limit} {self._operations} in progress; try again when one has ended."
            )
            raise TooManyInProgress(message, headers={"Retry-After": "1"}) from None
