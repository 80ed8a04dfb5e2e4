-- The beginning of every script about tombstones. Keys: an index, its values, the log.
-- MAX_TTL and LATEST are replaced by numbers: see scripts.py.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local index, values, log = KEYS[1], KEYS[2], KEYS[3]
local max_ttl, latest = MAX_TTL, LATEST
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
