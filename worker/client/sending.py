"""The Python client's steps of sending: the request id is made first, so that sending again is the same request."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from worker.client.models import Closing, NotDurable, Request, Sent
from worker.client.steps import UNREACHABLE, Command, Do, Names, Steps, command, pause, refusal
from worker.errors import BrokerUnavailable

ATTEMPTS = 4
WAITAOF_MS = 3000


def send_request(names: Names, fields: Mapping[str, Any], *, durable: bool, check: bool) -> Steps[Sent]:
    """Adds a request. Its id is made before, so that sending it again is the same request.

    `check`: whether the server can tell that something is durable is not known yet.
    """
    own_id = fields.get("requestId") is not None
    data = {"requestId": str(uuid.uuid4()), **{name: value for name, value in fields.items() if value is not None}}
    request = Request.read(data)
    entry = {"type": "snapshot.requested", "data": _json(request), "client": "python"}
    before = [command("xrevrange", stream, count=1) for stream in (names.events, names.rejected)]
    known = {"requestId": request.request_id}
    if check:
        yield from _check_durable(known)
    replies, attempts = yield from _send(names, entry, before, known, durable=durable)
    since = [found[0][0] if found else "0-0" for found in replies[:2]]
    return Sent(
        request_id=request.request_id,
        organization_id=request.organization_id,
        entry_id=replies[2],
        since=(since[0], since[1]),
        may_be_older=own_id or attempts > 1,
    )


def send_closing(names: Names, fields: Mapping[str, Any], *, durable: bool, check: bool) -> Steps[str]:
    """Adds a closing; the entry's id. Its request id is made of what the database says, so repeats are harmless."""
    entry = {"type": "conversation.resolved", "data": _json(Closing.read(fields)), "client": "python"}
    if check:
        yield from _check_durable({})
    replies, _ = yield from _send(names, entry, [], {}, durable=durable)
    return str(replies[0])


def _json(model: Request | Closing) -> str:
    return json.dumps(model.model_dump(by_alias=True, exclude_none=True))


def _send(
    names: Names, entry: Mapping[str, str], before: Sequence[Command], known: Mapping[str, str], *, durable: bool
) -> Steps[tuple[list[Any], int]]:
    """The replies, and after how many attempts. `known`: what an error says of the request."""
    commands = [*before, command("xadd", names.requests, entry)]
    if durable:
        commands.append(command("waitaof", 1, 0, WAITAOF_MS))
    replies, attempts = yield from _repeatedly(commands, known)
    if durable and not replies[-1][0]:
        raise NotDurable(f"Redis has the entry, but not on its disk within {WAITAOF_MS} ms.", **known)
    return replies, attempts


def _check_durable(known: Mapping[str, str]) -> Steps[None]:
    """Before anything is sent: whether the server can confirm that it is on disk. Raises NotDurable."""
    try:
        yield from _repeatedly([command("waitaof", 1, 0, 1)], known)
    except BrokerUnavailable as error:
        if isinstance(error.__cause__, redis.ResponseError):
            raise NotDurable("Redis cannot: it needs appendonly yes, and Redis 7.2 or Valkey.", **known) from error
        raise


def _repeatedly(commands: Sequence[Command], known: Mapping[str, str]) -> Steps[tuple[list[Any], int]]:
    """The replies, and after how many attempts. Raises BrokerUnavailable."""
    attempts = 0
    while True:
        attempts += 1
        try:
            replies = yield Do(commands)
        except redis.AuthenticationError as error:  # a ConnectionError to redis-py, but no outage
            raise BrokerUnavailable(refusal(error), **known) from error
        except UNREACHABLE as error:
            if attempts == ATTEMPTS:
                fault = f"Redis cannot be reached ({type(error).__name__}); it may have the request."
                raise BrokerUnavailable(f"{fault} Repeat it with the same request id.", **known) from error
            yield pause(attempts)
        except redis.RedisError as error:
            raise BrokerUnavailable(refusal(error), **known) from error
        else:
            return replies, attempts
