"""Rejects the malformed messages among the oldest ones of a queue, many at once.

A message that goes through Celery costs about a millisecond. A producer pushes 100,000 malformed ones within a second,
and all requests of others would wait behind them for minutes.
"""

import time
from collections.abc import Callable
from typing import Any

from worker.celery_support.payloads import find_fault, original, rejected_id
from worker.errors import InvalidMessage
from worker.stores.events import rejection

_MAX_MESSAGES, _MAX_BYTES = 500, 1_000_000
"""Maximum number of messages that one step checks, and of their bytes."""
_SECONDS = 0.2
"""How long a worker's event loop may do this before it turns to other messages."""

# KEYS: queue. ARGV: the maximum numbers of messages and bytes. Returns the oldest messages, the oldest one first.
_READ = """
local messages, size = {}, 0
for number = 1, ARGV[1] do
  local message = redis.call('LINDEX', KEYS[1], -number)
  size = size + (message and #message or 0)
  if not message or size > tonumber(ARGV[2]) then break end
  messages[number] = message
end
return messages
"""

# KEYS: queue, stream of rejected entries. ARGV: number of messages, the messages as they were read, and for each one
# the number of its names and values in the stream, followed by these; 0 if it stays. Since then, other workers may have
# taken the first of them. Returns how many were rejected, or -1 if the others are not the oldest ones any more. RPOP,
# unlike LTRIM, is among the commands of the documented Redis user.
_REMOVE = """
local count, found, gone = tonumber(ARGV[1]), redis.call('LRANGE', KEYS[1], -ARGV[1], -1), 0
while gone < count and ARGV[2 + gone] ~= found[#found] do gone = gone + 1 end
if gone == count then return -1 end
for number = gone, count - 1 do
  if ARGV[2 + number] ~= found[#found - (number - gone)] then return -1 end
end
local at, stay, rejected = count + 2, {}, 0
for number = 0, count - 1 do
  local parts = tonumber(ARGV[at])
  if number >= gone then
    if parts > 0 then
      redis.call('XADD', KEYS[2], '*', unpack(ARGV, at + 1, at + parts))
      rejected = rejected + 1
    else
      stay[#stay + 1] = ARGV[2 + number]
    end
  end
  at = at + 1 + parts
end
if rejected == 0 then return 0 end
redis.call('RPOP', KEYS[1], count - gone)
for number = #stay, 1, -1 do redis.call('RPUSH', KEYS[1], stay[number]) end
return rejected
"""


def reject_oldest(client: Any, queue: str, stream: str, is_task: Callable[[str], bool]) -> int:
    """Move malformed messages to the stream of rejected entries, and keep the others in their order.

    It stops at a step that finds few of them, and after 0.2 s. A crash neither loses nor repeats a message.

    Args:
        client: A redis-py client.
        queue: The list of messages.
        stream: The stream of rejected entries.
        is_task: Whether there is a task of this name.

    Returns:
        How many were moved.

    Raises:
        redis.RedisError: Redis refused it, and nothing has changed in this step.
    """
    stop_at, total = time.monotonic() + _SECONDS, 0
    while time.monotonic() < stop_at:
        messages: list[bytes] = client.eval(_READ, 1, queue, _MAX_MESSAGES, _MAX_BYTES)
        arguments: list[Any] = [len(messages), *messages]
        for message in messages:
            error = find_fault(message, is_task)
            parts = _fields(message, queue, error) if error else []
            arguments += [len(parts), *parts]
        moved = client.eval(_REMOVE, 2, queue, stream, *arguments) if messages else 0
        total += max(moved, 0)
        if 0 <= moved <= _MAX_MESSAGES // 10:
            break
    return total


def _fields(message: bytes, queue: str, error: InvalidMessage) -> list[str]:
    entry = original(message, queue, len(message))
    fields = rejection(error.outcome(), entry, f"task:{rejected_id(message)}")
    return [part for pair in fields.items() for part in pair]
