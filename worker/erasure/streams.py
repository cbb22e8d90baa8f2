"""Makes Redis free the memory of deleted stream entries.

XDEL only marks an entry: its bytes stay in the node of up to 100 entries that it shares with its neighbours, in memory
and in the append-only file, until the whole node is deleted. So the neighbours are added again and deleted as well.
https://github.com/redis/redis/blob/7.2/src/t_stream.c
"""

from collections.abc import Sequence
from typing import Any

_NODE = 100
"""Maximum number of entries in a node: the default of `stream-node-max-entries`."""


# KEYS: stream. ARGV: number of entries, their ids, and for each the number of names and values, followed by these. The
# last node may contain deleted entries and still have room. An entry as large as a node is added and deleted in the
# same script, so that the next entry begins a new node.
_MOVE = """
local count = tonumber(ARGV[1])
local filler = redis.call('XADD', KEYS[1], '*', 'filler', string.rep('x', 16384))
local at = count + 2
for _ = 1, count do
  local parts = tonumber(ARGV[at])
  redis.call('XADD', KEYS[1], '*', unpack(ARGV, at + 1, at + parts))
  at = at + 1 + parts
end
redis.call('XDEL', KEYS[1], filler)
for i = 2, count + 1 do redis.call('XDEL', KEYS[1], ARGV[i]) end
"""


def move_neighbours(client: Any, stream: str, first: bytes, last: bytes) -> None:
    """Move the entries that may share a node with those from `first` to `last` to the end of the stream.

    Consumers receive them once more, as they may receive any event.
    """
    if neighbours := _neighbours(client, stream, first, last):
        arguments: list[Any] = [len(neighbours), *(key for key, _ in neighbours)]
        for _, fields in neighbours:
            arguments += [2 * len(fields), *(part for pair in fields.items() for part in pair)]
        client.eval(_MOVE, 1, stream, *arguments)


def delete_acknowledged_neighbours(client: Any, stream: str, first: bytes, last: bytes) -> None:
    """Delete acknowledged entries that may share a node with those from `first` to `last`.

    Entries that some consumer group has not acknowledged stay until they are acknowledged and trimmed.
    """
    groups = client.xinfo_groups(stream)
    done = [key for key, _ in _neighbours(client, stream, first, last)]
    for group in groups:
        name, delivered = group["name"], _parts(group["last-delivered-id"])
        pending = client.xpending_range(stream, name, "-", "+", 10 * _NODE) if group["pending"] else []
        held = {each["message_id"] for each in pending}
        # If there are more pending entries than were read, only those before the last one are known.
        known = _parts(pending[-1]["message_id"]) if len(pending) == 10 * _NODE else delivered
        done = [key for key in done if key not in held and _parts(key) <= min(delivered, known)]
    if groups and done:
        client.xdel(stream, *done)


def _neighbours(client: Any, stream: str, first: bytes, last: bytes) -> Sequence[Any]:
    """Return the entries before, between and after the deleted ones that may share a node with them, in order."""
    before = client.xrevrange(stream, max=f"({first.decode()}", count=_NODE)
    between = client.xrange(stream, min=first, max=last)
    return [*reversed(before), *between, *client.xrange(stream, min=f"({last.decode()}", count=_NODE)]


def _parts(key: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = key.partition(b"-")
    return int(milliseconds), int(sequence or 0)
