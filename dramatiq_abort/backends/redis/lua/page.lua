-- Reads a page of the index. Arguments: cursor, count.
-- Returns the time, the last id of the log, the next cursor, the keys alternating with their ends, and their values.
local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
if last[1] and tonumber(string.match(last[1][1], '%d+')) > latest then
    rebuild_log()
    last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)
end
local page = redis.call('ZSCAN', index, ARGV[1], 'COUNT', ARGV[2])
local found = {}
if #page[2] > 0 then
    local keys = {}
    for i = 1, #page[2], 2 do
        keys[#keys + 1] = page[2][i]
    end
    found = redis.call('HMGET', values, unpack(keys))
end
return {now, last[1] and last[1][1] or '0-0', page[1], page[2], found}
