-- Signals events. Arguments: retention, value, priority, then the key and the time to live of each event.
-- `Event` has the rules for those whose key has a tombstone. Expired tombstones are removed on the way, a bounded number
-- at a time. Returns the time, the last entry's id, and for each event its end, with its value if that is another one.
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
