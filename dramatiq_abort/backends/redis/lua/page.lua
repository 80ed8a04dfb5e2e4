-- Reads a page of the index. Arguments: cursor, count.
-- Returns the time, the log's last id, the next cursor, keys and ends in turn, and the keys' values.
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
