-- The common beginning of all scripts about tombstones. Keys: an index, its values, the log.
-- scripts.py replaces MAX_TTL and LATEST with numbers.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local index, values, log = KEYS[1], KEYS[2], KEYS[3]
local max_ttl, latest = MAX_TTL, LATEST
local function is_type_or_missing(key, kind)
    local found = redis.call('TYPE', key).ok
    return found == kind or found == 'none'
end
if not (is_type_or_missing(index, 'zset') and is_type_or_missing(values, 'hash')) then
    redis.call('DEL', index, values)
end
if not is_type_or_missing(log, 'stream') then
    redis.call('DEL', log)
end
local function is_live(expiry)  -- ignoring the half millisecond of tombstones with a value
    return math.floor(expiry) > now
end
local function rebuild_log()  -- without the entries with implausible ids; readers continue from their last id
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
        if string.find(id.err, ' ID') then  -- the greatest possible id is taken
            rebuild_log()
        end
        id = redis.call('XADD', log, '*', ...)
    end
    return id
end
