"""Client steps that send requests. The request id is generated first, so that a retry is the same request."""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from ..errors import BrokerUnavailable
from ..stores.redis_errors import describe, name_of
from .models import Closing, NotDurable, Request, Sent
from .steps import PASSING, UNREACHABLE, Command, Execute, Names, Steps, backoff, command, refusal

ATTEMPTS = 4
WAITAOF_MS = 3000


def send_request(names: Names, fields: Mapping[str, Any], *, durable: bool, check: bool) -> Steps[Sent]:
    """Add a request to the stream.

    Args:
        names: The names of the streams.
        fields: The fields of the request, in camelCase. None is the same as absent.
        durable: Whether to wait until the entry is on Redis's disk.
        check: Whether to verify first that the server can confirm durability.
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
    """Add a closing and return the entry's id. The service derives the request id, so a repeat is safe.

    See `send_request` for the parameters.
    """
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
    """Return the replies and the number of attempts. `known`: details that an error carries."""
    commands = [*before, command("xadd", names.requests, entry)]
    if durable:
        commands.append(command("waitaof", 1, 0, WAITAOF_MS))
    replies, attempts = yield from _with_retries(commands, known)
    if durable and not replies[-1][0]:
        raise NotDurable(
            f"Redis accepted the entry but did not confirm that it is on disk within {WAITAOF_MS} ms.", **known
        )
    return replies, attempts


def _check_durable(known: Mapping[str, str]) -> Steps[None]:
    """Verify, before anything is sent, that the server can confirm writes to disk. Raises NotDurable."""
    try:
        yield from _with_retries([command("waitaof", 1, 0, 1)], known)
    except BrokerUnavailable as error:
        if isinstance(error.__cause__, redis.ResponseError):
            raise NotDurable(
                "Redis cannot confirm durability: it needs `appendonly yes` and Redis 7.2 or Valkey.", **known
            ) from error
        raise


def _with_retries(commands: Sequence[Command], known: Mapping[str, str]) -> Steps[tuple[list[Any], int]]:
    """Return the replies and the number of attempts. Raises BrokerUnavailable."""
    attempts = 0
    while True:
        attempts += 1
        try:
            replies = yield Execute(commands)
        except redis.AuthenticationError as error:  # redis-py derives it from ConnectionError, but it is not an outage
            raise BrokerUnavailable(refusal(error), **known) from error
        except UNREACHABLE as error:
            if attempts == ATTEMPTS:
                fault = f"Redis is unreachable ({describe(error)}); it may have received the request."
                raise BrokerUnavailable(f"{fault} Retry with the same request id.", **known) from error
            yield backoff(attempts)
        except redis.RedisError as error:
            if name_of(error) not in PASSING or attempts == ATTEMPTS:
                raise BrokerUnavailable(refusal(error), **known) from error
            yield backoff(attempts)
        else:
            return replies, attempts
