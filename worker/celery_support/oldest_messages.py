"""Removes chosen messages among the oldest ones of a queue, many at once.

A message that goes through Celery costs about a millisecond. A producer pushes 100,000 within a second, and all
requests of others would wait behind them for minutes.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

MAX_MESSAGES, MAX_BYTES = 500, 4_000_000
"""Maximum number of messages that one step reads, and of their bytes."""
SECONDS = 0.2
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

# KEYS: queue, target. ARGV: the command that adds to the target, the number of messages, the messages as they were
# read, and for each one the number of the command's arguments, followed by these; 0 if it stays. Since then, other
# workers may have taken the first of them. Returns how many were moved, or -1 if the others are not the oldest ones any
# more. RPOP, unlike LTRIM, is among the commands of the documented Redis user.
_MOVE = """
local count, found, gone = tonumber(ARGV[2]), redis.call('LRANGE', KEYS[1], -ARGV[2], -1), 0
while gone < count and ARGV[3 + gone] ~= found[#found] do gone = gone + 1 end
if gone == count then return -1 end
for number = gone, count - 1 do
  if ARGV[3 + number] ~= found[#found - (number - gone)] then return -1 end
end
local at, stay, moved = count + 3, {}, 0
for number = 0, count - 1 do
  local parts = tonumber(ARGV[at])
  if number >= gone then
    if parts > 0 then
      redis.call(ARGV[1], KEYS[2], unpack(ARGV, at + 1, at + parts))
      moved = moved + 1
    else
      stay[#stay + 1] = ARGV[3 + number]
    end
  end
  at = at + 1 + parts
end
if moved == 0 then return 0 end
redis.call('RPOP', KEYS[1], count - gone)
for number = #stay, 1, -1 do redis.call('RPUSH', KEYS[1], stay[number]) end
return moved
"""

Arguments = Sequence[str | bytes]


def move_oldest(
    client: Any,
    queue: str,
    target: str,
    command: Literal["XADD", "LPUSH"],
    choose: Callable[[Sequence[bytes]], Sequence[Arguments]],
    seconds: float = SECONDS,
) -> int:
    """Move messages from a queue to another key, and keep the others in their order.

    It stops at a step that moves at most a tenth of what it has read, and when the time is over. A crash neither loses
    nor repeats a message.

    Args:
        client: A redis-py client.
        queue: The list of messages.
        target: The stream or list that gets the chosen ones.
        command: The command that adds to the target.
        choose: Gets up to 500 messages, the oldest one first. Returns for each the arguments of the command after the
            key, or an empty sequence if the message stays.
        seconds: How long to go on. A step that has begun is finished.

    Returns:
        How many were moved.

    Raises:
        redis.RedisError: Redis refused it, and nothing has changed in this step.
    """
    stop_at, total = time.monotonic() + seconds, 0
    while time.monotonic() < stop_at:
        messages: list[bytes] = client.eval(_READ, 1, queue, MAX_MESSAGES, MAX_BYTES)
        given: list[Any] = [part for each in choose(messages) for part in (len(each), *each)]
        moved = client.eval(_MOVE, 2, queue, target, command, len(messages), *messages, *given) if any(given) else 0
        total += max(moved, 0)
        if 0 <= moved <= len(messages) // 10:
            break
    return total
