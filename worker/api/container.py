"""The parts of one API process, put together at its start."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from bson import ObjectId
from fastapi import Request
from pydantic_core import from_json

from worker.api.acceptor import Accepting
from worker.api.batcher import pause_for
from worker.api.editor import Editing
from worker.api.enqueuer import Waking
from worker.api.http_metrics import Measures
from worker.api.keys import PREFIX, Keys
from worker.api.limits import RateLimit, read_body
from worker.api.lister import Reading
from worker.api.poller import Outcomes
from worker.api.responses import TokenMissing
from worker.api.roles import Right, check_role
from worker.api.tokens import Caller, Tokens
from worker.domain.requests import read_object_id
from worker.errors import InvalidRequest
from worker.service import Service
from worker.stores.connections import Connections

_GATHER, _LONGEST_GATHER = 0.0005, 0.02
"""Seconds that accepts are gathered, for each request in flight and at most."""
_THREADS = 4
"""Of each kind: as many as a client has connections."""


class Parts:
    """What the endpoints stand on. Writes and reads have threads and connections of their own."""

    def __init__(self, service: Service) -> None:
        """Raises InvalidSettings where tokens cannot be verified."""
        self.settings = service.settings
        self.service = service
        self.tokens = Tokens(service.settings)
        self.readers = ThreadPoolExecutor(_THREADS, "reader")
        self._writers = ThreadPoolExecutor(_THREADS, "writer")
        self._side = ThreadPoolExecutor(2, "redis")
        self._reading_connections = Connections(service.settings)
        self.keys = Keys(self._reading_connections)
        self.reading = Reading(self._reading_connections)
        self.editing = Editing(service)
        self.outcomes = Outcomes(service, self._writers)
        self.accepting = Accepting(service, self._writers, self._pause)
        self.waking = Waking(service, self._side, self.outcomes.awaited)
        self.limit = RateLimit(service.settings, self._side)
        self.measures = Measures(self._reading_connections)

    def _pause(self) -> float:
        return pause_for(self.outcomes.awaited(), _GATHER, _LONGEST_GATHER)

    async def admit(self, request: Request, right: Right) -> Caller:
        """Who calls, if they may. Raises Unauthorized, RateLimited, Forbidden."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise TokenMissing
        return await self.admit_token(token, right)

    async def admit_token(self, token: str, right: Right) -> Caller:
        """Whose token it is, if they may. Raises Unauthorized, RateLimited, Forbidden."""
        if token.startswith(PREFIX):
            caller = self.keys.known(token) or await self.read(self.keys.find, token)
        else:
            caller = self.tokens.verify(token)
        structlog.contextvars.bind_contextvars(organization_id=str(caller.organization))
        await self.limit(token)
        check_role(caller.role, right)
        return caller

    async def body(self, request: Request) -> Any:
        """The body, read as JSON. Raises BodyTooLarge, InvalidRequest."""
        content = await read_body(request, self.settings.api_max_body)
        try:
            return from_json(content, allow_inf_nan=False)
        except ValueError as error:
            said = f"should be JSON in UTF-8: {error}"
            raise InvalidRequest([{"field": "body", "message": said}]) from None

    async def read(self, what: Any, *arguments: Any) -> Any:
        """`what(*arguments)` in a reader's thread."""
        return await _in(self.readers, what, *arguments)

    async def write(self, what: Any, *arguments: Any) -> Any:
        """`what(*arguments)` in a writer's thread."""
        return await _in(self._writers, what, *arguments)

    def close(self) -> None:
        for pool in (self.readers, self._writers, self._side):
            pool.shutdown(wait=False, cancel_futures=True)
        self.limit.close()
        self._reading_connections.close()
        self.service.connections.close()


async def _in(executor: ThreadPoolExecutor, what: Any, *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(executor, what, *arguments)


def parts_of(request: Request) -> Parts:
    """This process's."""
    parts: Parts = request.app.state.parts
    return parts


def path_id(request: Request) -> ObjectId:
    """The id in the path. Raises InvalidRequest."""
    try:
        return read_object_id(request.path_params["id"])
    except ValueError as error:
        raise InvalidRequest([{"field": "id", "message": str(error)}]) from None
