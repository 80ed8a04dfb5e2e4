-- Signals events. Arguments: retention, value, priority, then the key and the time to live of each event.
-- `Event` has the rules for keys that have a tombstone already. Expired tombstones are removed as well, a bounded
-- number at a time. Returns the time, the id of the last log entry, and the end of each event, with its value if that
-- is another one.
local retention, value, priority = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local expired = redis.call('ZRANGEBYSCORE', index, '-inf', now + 0.5, 'LIMIT', 0, 500)
if #expired > 0 then
    redis.call('ZREM', index, unpack(expired))
    redis.call('HDEL', values, unpack(expired))
end
local keys = {}
for i = 4, #ARGV, 2 do
    keys[#keys + 1] = ARGV[i]
end
local before = redis.call('ZMSCORE', index, unpack(keys))
local longest = redis.call('PTTL', index)
local scores, with_value, without_value, changes, ends, ends_of = {}, {}, {}, {}, {}, {}
local id
for i, key in ipairs(keys) do
    local ending, kept, expiry = math.max(now + ARGV[2 * i + 3], ends_of[key] or 0), value, tonumber(before[i] or 0)
    if is_live(expiry) then
        ending = math.max(ending, math.min(math.floor(expiry), now + max_ttl))
        local live_value = redis.call('HGET', values, key)
        local is_whole = live_value or expiry % 1 == 0
        if is_whole and (priority < 0 or (priority == 0 and value ~= '' and not live_value)) then
            kept = live_value or ''
        end
    end
    ends_of[key] = ending  -- for an event with the same key later in the list
    longest = math.max(longest, ending - now)
    if kept ~= '' then
        scores[#scores + 1] = ending + 0.5
        with_value[#with_value + 1] = key
        with_value[#with_value + 1] = kept
    else
        scores[#scores + 1] = ending
        without_value[#without_value + 1] = key
    end
    scores[#scores + 1] = key
    if kept == value then
        changes[#changes + 1] = key
        changes[#changes + 1] = ending
        ends[i] = ending
    else
        id = append(retention, 'v', kept, 'n', now, key, ending)
        ends[i] = {ending, kept}
    end
end
redis.call('ZADD', index, unpack(scores))
if #with_value > 0 then
    redis.call('HSET', values, unpack(with_value))
end
if #without_value > 0 then
    redis.call('HDEL', values, unpack(without_value))
end
if #changes > 0 then
    id = append(retention, 'v', value, 'n', now, unpack(changes))
end
longest = math.min(longest, max_ttl)
redis.call('PEXPIRE', index, longest)
redis.call('PEXPIRE', values, longest)
redis.call('PEXPIRE', log, retention)
return {now, id, ends}
