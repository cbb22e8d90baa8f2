"""Lua scripts for the intake stream: steps that must be atomic, and reads whose size must be limited.

XREADGROUP limits a reply by the number of entries only; 1,000 entries of 4 MB would be 4 GB. These reads stop at a
number of bytes, and truncate an entry that is too large instead of returning it.
https://redis.io/docs/latest/develop/programmability/lua-api/
"""

MAX_FIELDS = 100
"""Maximum number of fields of an entry. Very many fields would take far more memory than their bytes."""
SHOWN_FIELDS, SHOWN_BYTES = 20, 1000
"""How many fields of an entry that is too large are kept, and how many bytes of each name and value."""

# {id, size in bytes, number of fields, [name, value, ...]}
_PACK = f"""
local function pack(entry, limit)
  local fields, size = entry[2], 0
  for i = 1, #fields do size = size + #fields[i] end
  if size <= limit and #fields <= {2 * MAX_FIELDS} then return {{entry[1], size, #fields / 2, fields}}, size end
  local cut = {{}}
  for i = 1, math.min(#fields, {2 * SHOWN_FIELDS}) do cut[i] = string.sub(fields[i], 1, {SHOWN_BYTES}) end
  return {{entry[1], size, #fields / 2, cut}}, {2 * SHOWN_FIELDS * SHOWN_BYTES}
end
"""

# KEYS: stream, queue. ARGV: limit, budget, group, consumer, count. Returns the entries and the length of the queue.
# Reads as many entries at once as fit into what is left of the budget if all of them are as large as the limit.
READ_NEW = (
    _PACK
    + """
local entries, total, limit, budget = {}, 0, tonumber(ARGV[1]), tonumber(ARGV[2])
local left = tonumber(ARGV[5])
while left > 0 and total < budget do
  local count = math.min(left, math.max(1, math.floor((budget - total) / limit)))
  local reply = redis.call('XREADGROUP', 'GROUP', ARGV[3], ARGV[4], 'COUNT', count, 'STREAMS', KEYS[1], '>')
  if not reply then break end
  for _, found in ipairs(reply[1][2]) do
    local entry, size = pack(found, limit)
    entries[#entries + 1], total, left = entry, total + size, left - 1
  end
end
return {entries, redis.call('LLEN', KEYS[2])}
"""
)

# KEYS: stream. ARGV: limit, budget, id... A deleted entry has the size -1.
FETCH = (
    _PACK
    + """
local entries, total, limit, budget = {}, 0, tonumber(ARGV[1]), tonumber(ARGV[2])
local function fetch(id)
  local found = redis.call('XRANGE', KEYS[1], id, id)
  if #found == 0 then
    entries[#entries + 1] = {id, -1, 0, {}}
  else
    local entry, size = pack(found[1], limit)
    entries[#entries + 1], total = entry, total + size
  end
  return total < budget
end
for i = 3, #ARGV do
  if not fetch(ARGV[i]) then break end
end
return entries
"""
)

# redis-py has no parser for the reply of XAUTOCLAIM with JUSTID that keeps the ids of deleted entries.
CLAIM = "return redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], 'COUNT', ARGV[5], 'JUSTID')"

# Atomic, so that two listeners that hold the same entry reject it once, and a crash neither loses nor duplicates it.
# XADD is the first write: if Redis is out of memory, it refuses the script there and nothing has happened.
# After a flush the pending entry is gone together with its group; it is rejected all the same.
REJECT = """
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
if pending['err'] or #pending > 0 then
  redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
  redis.pcall('XACK', KEYS[1], ARGV[1], ARGV[2])
  return 1
end
return 0
"""

# Atomic, because entries that a consumer receives between XINFO and XGROUP DELCONSUMER would be lost.
REMOVE_CONSUMERS = """
local removed = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local info = {}
  for i = 1, #consumer, 2 do info[consumer[i]] = consumer[i + 1] end
  local wanted = ARGV[2] == info['name'] or (ARGV[2] == '' and info['idle'] >= tonumber(ARGV[3]))
  if wanted and info['pending'] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], info['name'])
    removed = removed + 1
  end
end
return removed
"""
