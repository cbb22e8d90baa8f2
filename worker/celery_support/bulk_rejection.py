"""Rejects the malformed messages among the oldest ones of a queue, many at once."""

from collections.abc import Callable, Sequence
from typing import Any

from worker.celery_support.oldest_messages import move_oldest
from worker.celery_support.payloads import find_fault, original, rejected_id
from worker.errors import InvalidMessage
from worker.stores.events import rejection


def reject_oldest(client: Any, queue: str, stream: str, check_call: Callable[[str, bytes], None]) -> int:
    """Move malformed messages to the stream of rejected entries, and keep the others in their order.

    Args:
        client: A redis-py client.
        queue: The list of messages.
        stream: The stream of rejected entries.
        check_call: Gets the name of a task and the body of a message; raises InvalidMessage if the task rejects them.

    Returns:
        How many were moved. `worker.celery_support.oldest_messages` says when it stops.

    Raises:
        redis.RedisError: Redis refused it.
    """

    def choose(messages: Sequence[bytes]) -> list[list[str]]:
        faults = [find_fault(message, check_call) for message in messages]
        return [_entry(message, queue, error) if error else [] for message, error in zip(messages, faults, strict=True)]

    return move_oldest(client, queue, stream, "XADD", choose)


def _entry(message: bytes, queue: str, error: InvalidMessage) -> list[str]:
    fields = rejection(error.outcome(), original(message, queue, len(message)), f"task:{rejected_id(message)}")
    return ["*", *(part for pair in fields.items() for part in pair)]
