"""What runs inside of Redis: each script is one round trip and one atomic step.

Three keys, in one slot of a cluster. All times are the server's, in milliseconds since 1970.

=========  ==========  ============================================================================
index      sorted set  the keys of the live tombstones, by the time at which they end; and half a millisecond
                       more for those that say something: without their value they are nothing
values     hash        what those tombstones say that say something
log        stream      every change, as it was made: ``k`` the key, ``v`` the value, ``e`` the end of it
                       (0: taken back), ``n`` the time; kept for as long as a reader may be away
=========  ==========  ============================================================================

A server that runs out of memory may evict any of the three by itself.
"""

from __future__ import annotations

import hashlib
from typing import Final

__all__ = ["LOOK_UP", "PAGE", "REVOKE", "SIGNAL", "Script"]


_NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local index, values, log = KEYS[1], KEYS[2], KEYS[3]
"""


class Script:
    """A script and the name by which the server keeps it."""

    def __init__(self, lua: str) -> None:
        self.lua: Final = _NOW + lua
        self.sha: Final = hashlib.sha1(self.lua.encode(), usedforsecurity=False).hexdigest()


#: retention, then key, value, time to live and priority of each event: ``Event`` has the rules for those whose key has
#: one. What is over is removed on the way, a bounded number at a time. Returns the time, then of each the value and the
#: end, as they are now, and the entry's id.
SIGNAL: Final = Script("""
local retention = tonumber(ARGV[1])
local over = redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, 1000)
if #over > 0 then
    redis.call('ZREM', index, unpack(over))
    redis.call('HDEL', values, unpack(over))
end
local longest = redis.call('PTTL', index)
local tombstones = {now}
for i = 2, #ARGV, 4 do
    local key, value, ttl = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
    local before = redis.call('ZSCORE', index, key)
    if before then
        ttl = math.max(ttl, math.floor(before) - now)
        local said, priority = redis.call('HGET', values, key), tonumber(ARGV[i + 3])
        local is_whole = said or before % 1 == 0
        said = said or ''
        if is_whole and (priority < 0 or (priority == 0 and value ~= '' and said == '')) then
            value = said
        end
    end
    longest = math.max(longest, ttl)
    if value ~= '' then
        redis.call('ZADD', index, now + ttl + 0.5, key)
        redis.call('HSET', values, key, value)
    else
        redis.call('ZADD', index, now + ttl, key)
        redis.call('HDEL', values, key)
    end
    local id = redis.call('XADD', log, 'MINID', '~', now - retention, '*',
        'k', key, 'v', value, 'e', now + ttl, 'n', now)
    tombstones[#tombstones + 1] = {value, now + ttl, id}
end
redis.call('PEXPIRE', index, longest)
redis.call('PEXPIRE', values, longest)
redis.call('PEXPIRE', log, retention)
return tombstones
""")

#: key. Returns what is left of its time and its value, or nil.
LOOK_UP: Final = Script("""
local expiry = redis.call('ZSCORE', index, ARGV[1])
if not expiry or tonumber(expiry) <= now then
    return nil
end
local value = redis.call('HGET', values, ARGV[1])
if not value and expiry % 1 ~= 0 then
    return nil
end
return {math.floor(expiry) - now, value or ''}
""")

#: retention, key. Returns whether there was one.
REVOKE: Final = Script("""
local expiry = redis.call('ZSCORE', index, ARGV[2])
if not expiry or tonumber(expiry) <= now then
    return 0
end
redis.call('ZREM', index, ARGV[2])
redis.call('HDEL', values, ARGV[2])
redis.call('XADD', log, 'MINID', '~', now - ARGV[1], '*', 'k', ARGV[2], 'v', '', 'e', 0, 'n', now)
redis.call('PEXPIRE', log, ARGV[1])
return 1
""")

#: cursor, count. Returns the time, the log's last id, the next cursor, keys and ends in turn, and the keys' values.
PAGE: Final = Script("""
local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
local page = redis.call('ZSCAN', index, ARGV[1], 'COUNT', ARGV[2])
local said = {}
if #page[2] > 0 then
    local keys = {}
    for i = 1, #page[2], 2 do
        keys[#keys + 1] = page[2][i]
    end
    said = redis.call('HMGET', values, unpack(keys))
end
return {now, last[1] and last[1][1] or '0-0', page[1], page[2], said}
""")
