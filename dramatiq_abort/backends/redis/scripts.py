"""What runs inside of Redis: each script is one round trip and one atomic step.

Each has three keys, in one slot of a cluster. All times are the server's, in milliseconds since 1970.

=========  ==========  ============================================================================
index      sorted set  the keys of the live tombstones, by the time at which they end; and half a millisecond
                       more for those that say something: without their value they are nothing
values     hash        what those tombstones say that say something
log        stream      every change, as it was made: ``v``, the value; ``n``, the time; and then each key with its
                       end (0: taken back). Kept for as long as a reader may be away
=========  ==========  ============================================================================

There are two indexes, each with its values: that of the messages, and that of what is for all workers. They share the
log, where the beginning of a key tells which of them it is in.

A server that runs out of memory may evict any of the three by itself. What others have put in their place is removed,
since it would be in the way for ever; what they have put into them is left to the readers to ignore.
"""

from __future__ import annotations

import hashlib
from typing import Final

from ..._protocol.request import MAX_TIME

__all__ = ["LATEST", "LOOK_UP", "PAGE", "REVOKE", "SIGNAL", "Script"]


#: No server's clock gets as far, in ms: an entry of the log with a later id is none of ours.
LATEST: Final = 10**15

_BEGIN: Final = f"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local index, values, log = KEYS[1], KEYS[2], KEYS[3]
local max_ttl, latest = {MAX_TIME}, {LATEST}
local function is(key, kind)
    local found = redis.call('TYPE', key).ok
    return found == kind or found == 'none'
end
if not (is(index, 'zset') and is(values, 'hash')) then
    redis.call('DEL', index, values)
end
if not is(log, 'stream') then
    redis.call('DEL', log)
end
local function is_live(expiry)  -- without the half millisecond
    return math.floor(expiry) > now
end
local function begin_again()  -- the log, without what is too late; but those who read it need not begin again
    local entries = redis.call('XREVRANGE', log, latest, '-', 'COUNT', 1000)
    redis.call('DEL', log)
    for i = #entries, 1, -1 do
        if #entries[i][2] < 4000 then
            redis.call('XADD', log, entries[i][1], unpack(entries[i][2]))
        end
    end
end
local function append(retention, ...)
    local id = redis.pcall('XADD', log, 'MINID', '~', now - retention, '*', ...)
    if type(id) == 'table' then
        if string.find(id.err, ' ID') then  -- there is no later one
            begin_again()
        end
        id = redis.call('XADD', log, '*', ...)
    end
    return id
end
"""


class Script:
    """A script and the name by which the server keeps it."""

    def __init__(self, lua: str) -> None:
        self.lua: Final = _BEGIN + lua
        self.sha: Final = hashlib.sha1(self.lua.encode(), usedforsecurity=False).hexdigest()


#: retention, value, priority, then key and time to live of each event: ``Event`` has the rules for those whose key has
#: one. What is over is removed on the way, a bounded number at a time. Returns the time, the last entry's id, and of
#: each the end, as it is now, and the value, where it is another one.
SIGNAL: Final = Script("""
local retention, value, priority = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local over = redis.call('ZRANGEBYSCORE', index, '-inf', now + 0.5, 'LIMIT', 0, 500)
if #over > 0 then
    redis.call('ZREM', index, unpack(over))
    redis.call('HDEL', values, unpack(over))
end
local keys = {}
for i = 4, #ARGV, 2 do
    keys[#keys + 1] = ARGV[i]
end
local before = redis.call('ZMSCORE', index, unpack(keys))
local longest = redis.call('PTTL', index)
local scores, sayings, silent, changes, ends, ends_of = {}, {}, {}, {}, {}, {}
local id
for i, key in ipairs(keys) do
    local ending, says, expiry = math.max(now + ARGV[2 * i + 3], ends_of[key] or 0), value, tonumber(before[i] or 0)
    if is_live(expiry) then
        ending = math.max(ending, math.min(math.floor(expiry), now + max_ttl))
        local said = redis.call('HGET', values, key)
        local is_whole = said or expiry % 1 == 0
        if is_whole and (priority < 0 or (priority == 0 and value ~= '' and not said)) then
            says = said or ''
        end
    end
    ends_of[key] = ending  -- the same key may come again
    longest = math.max(longest, ending - now)
    if says ~= '' then
        scores[#scores + 1] = ending + 0.5
        sayings[#sayings + 1] = key
        sayings[#sayings + 1] = says
    else
        scores[#scores + 1] = ending
        silent[#silent + 1] = key
    end
    scores[#scores + 1] = key
    if says == value then
        changes[#changes + 1] = key
        changes[#changes + 1] = ending
        ends[i] = ending
    else
        id = append(retention, 'v', says, 'n', now, key, ending)
        ends[i] = {ending, says}
    end
end
redis.call('ZADD', index, unpack(scores))
if #sayings > 0 then
    redis.call('HSET', values, unpack(sayings))
end
if #silent > 0 then
    redis.call('HDEL', values, unpack(silent))
end
if #changes > 0 then
    id = append(retention, 'v', value, 'n', now, unpack(changes))
end
longest = math.min(longest, max_ttl)
redis.call('PEXPIRE', index, longest)
redis.call('PEXPIRE', values, longest)
redis.call('PEXPIRE', log, retention)
return {now, id, ends}
""")

#: key. Returns what is left of its time and its value, or nil.
LOOK_UP: Final = Script("""
local expiry = redis.call('ZSCORE', index, ARGV[1])
if not expiry or not is_live(expiry) then
    return nil
end
local value = redis.call('HGET', values, ARGV[1])
if not value and expiry % 1 ~= 0 then
    return nil
end
return {math.min(math.floor(expiry) - now, max_ttl), value or ''}
""")

#: retention, key. Returns whether there was one.
REVOKE: Final = Script("""
local expiry = redis.call('ZSCORE', index, ARGV[2])
if not expiry or not is_live(expiry) then
    return 0
end
redis.call('ZREM', index, ARGV[2])
redis.call('HDEL', values, ARGV[2])
append(ARGV[1], 'v', '', 'n', now, ARGV[2], 0)
redis.call('PEXPIRE', log, ARGV[1])
return 1
""")

#: cursor, count. Returns the time, the log's last id, the next cursor, keys and ends in turn, and the keys' values.
PAGE: Final = Script("""
local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
if last[1] and tonumber(string.match(last[1][1], '%d+')) > latest then
    begin_again()
    last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
end
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
