"""Finds streams whose ids are far in the future, and moves such a stream out of the way.

`XADD` with `*` never gives a lower id than the last one. So after one entry with the greatest possible id, which a
producer may choose, Redis refuses every further entry, and after an id of the year 2286, or after Redis's clock was
wrong, no entry is ever old enough to be trimmed. Workers therefore rename such a stream; the next `XADD` begins a new
one. Its entries are kept as long as rejected entries are.
"""

from typing import Any

import redis

from worker.log import get_logger
from worker.settings import Settings
from worker.stores.key_types import MARKER_KEY, moved_name
from worker.stores.redis_errors import name_of

log = get_logger(__name__)

LAST_PART = 2**64 - 1
"""The greatest value of each of the two parts of an id."""
MAX_AHEAD_MS = 86_400_000
"""How far an id may be ahead of the clock of Redis."""

# KEYS: stream, its new name. ARGV: by how many ms an id may be ahead, lifetime in ms, the group that has to finish
# first, or nothing. Returns the last id, or nothing if the stream stays.
_MOVE = f"""
if redis.call('TYPE', KEYS[1])['ok'] ~= 'stream' then return false end
local function field(reply, name)
  for i = 1, #reply, 2 do if reply[i] == name then return reply[i + 1] end end
end
local last = field(redis.call('XINFO', 'STREAM', KEYS[1]), 'last-generated-id')
if tonumber(string.match(last, '^%d+')) <= redis.call('TIME')[1] * 1000 + ARGV[1] then return false end
if ARGV[3] ~= '' then
  local finished = false
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    if field(group, 'name') == ARGV[3] and field(group, 'pending') == 0 then
      local read = field(group, 'last-delivered-id')
      finished = read == '{LAST_PART}-{LAST_PART}'
        or #redis.call('XRANGE', KEYS[1], '(' .. read, '+', 'COUNT', 1) == 0
    end
  end
  if not finished then return false end
end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return last
"""


def move_future_streams(client: Any, settings: Settings) -> None:
    """Rename streams whose last id is more than a day ahead of Redis's clock, and log it.

    The intake stream is renamed once listeners have processed all its entries: an entry's id tells whether its request
    is already known. If Redis refuses, log that. Raises redis-py's connection errors.
    """
    lifetime = round(settings.events_retention.total_seconds() * 1000)
    finished_by = {settings.requests_stream: settings.consumer_group}
    try:
        for stream in (settings.requests_stream, settings.rejected_stream, settings.events_stream):
            target = moved_name(client, stream)
            arguments = (MAX_AHEAD_MS, lifetime, finished_by.get(stream, ""))
            if last := client.eval(_MOVE, 2, stream, target, *arguments):
                if stream == settings.events_stream:  # its consumers get the events again, from the next sweep
                    client.delete(MARKER_KEY)
                log.error("future_stream_moved", key=stream, last_id=last.decode(), moved_to=target)
    except redis.ResponseError as error:
        if "ACL failure" not in str(error):  # of a user that lacks XINFO STREAM, which the doctor names
            log.error("future_stream_not_moved", reason=name_of(error))
