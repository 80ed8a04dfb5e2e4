-- Revokes a tombstone, and returns 1 if it was live, else 0. Arguments: retention, key.
local expiry = redis.call('ZSCORE', index, ARGV[2])
if not expiry or not is_live(expiry) then
    return 0
end
redis.call('ZREM', index, ARGV[2])
redis.call('HDEL', values, ARGV[2])
append(ARGV[1], 'v', '', 'n', now, ARGV[2], 0)
redis.call('PEXPIRE', log, ARGV[1])
return 1
