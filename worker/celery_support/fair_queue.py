"""Moves the messages of producers that send very many at once to the bulk queue.

Otherwise all requests of others would wait behind them in the interactive queue. Workers take turns between the two.
"""

import re
from collections.abc import Sequence
from typing import Any

from pydantic_core import from_json

from worker.celery_support.message_format import decode_body, parse_message
from worker.celery_support.oldest_messages import move_oldest
from worker.domain.fair_shares import smallest
from worker.errors import InvalidMessage
from worker.intake.batch import INTERACTIVE_LIMIT
from worker.intake.entries import CLOSING, REQUEST
from worker.stores.wakeups import BULK, INTERACTIVE

PRODUCER_TASKS = frozenset({REQUEST, CLOSING})
"""The tasks whose messages come from Celery producers, with a whole request or closing."""
_MANY = 100
"""How many messages must wait. Workers process fewer of them within a second."""
_NONE = ""
"""The organization of a message that names none, which its task will reject."""
_ID = re.compile("[0-9a-f]{24}", re.ASCII | re.IGNORECASE)


def divert_floods(client: Any) -> int:
    """Move the oldest messages of organizations that have many to the bulk queue, in their order.

    Of each 500 messages, those of the organizations with the fewest stay, 16 together, and so do all wake-ups.

    Args:
        client: A redis-py client.

    Returns:
        How many were moved. `worker.celery_support.oldest_messages` says when it stops.

    Raises:
        redis.RedisError: Redis refused it.
    """
    return move_oldest(client, INTERACTIVE, BULK, "LPUSH", _choose)


def _choose(messages: Sequence[bytes]) -> list[list[bytes]]:
    if len(messages) < _MANY:
        return [[] for _ in messages]
    organizations = [_organization(message) for message in messages]
    few = smallest((each for each in organizations if each is not None), INTERACTIVE_LIMIT)
    return [
        [] if organization is None or organization in few else [message]
        for message, organization in zip(messages, organizations, strict=True)
    ]


def _organization(raw: bytes) -> str | None:
    """Return the organization of a producer's message. None for any other message."""
    try:
        message = parse_message(raw)
        if message["headers"]["task"] not in PRODUCER_TASKS:
            return None
    except (InvalidMessage, TypeError, KeyError):
        return None
    try:
        organization = from_json(decode_body(message))[0][0]["organizationId"]
    except (InvalidMessage, ValueError, TypeError, KeyError, IndexError):
        return _NONE
    return organization.lower() if isinstance(organization, str) and _ID.fullmatch(organization) else _NONE
