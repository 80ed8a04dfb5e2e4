-- Returns the remaining time to live and the value of a tombstone, or nil. Argument: key.
local expiry = redis.call('ZSCORE', index, ARGV[1])
if not expiry or not is_live(expiry) then
    return nil
end
local value = redis.call('HGET', values, ARGV[1])
if not value and expiry % 1 ~= 0 then
    return nil
end
return {math.min(math.floor(expiry) - now, max_ttl), value or ''}
