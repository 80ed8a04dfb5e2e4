-- Returns the last id of the stream of names, and the replies. Keys: the stream, then each reply.
local last = redis.call('TYPE', KEYS[1]).ok == 'stream' and redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1) or {}
local replies = {}
for i = 2, #KEYS do
    replies[i - 1] = redis.call('TYPE', KEYS[i]).ok == 'string' and redis.call('GET', KEYS[i])
end
return {last[1] and last[1][1] or '0-0', replies}
