-- Stores replies. Keys: the stream of names, then each reply.
-- Arguments: the text and the time to live of each, then the fields of the entry in the stream.
for i = 2, #KEYS do
    redis.call('SET', KEYS[i], ARGV[2 * i - 3], 'PX', ARGV[2 * i - 2])
end
local found = redis.call('TYPE', KEYS[1]).ok
if found ~= 'stream' and found ~= 'none' then
    redis.call('DEL', KEYS[1])
end
local id = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', 1000, '*', unpack(ARGV, 2 * #KEYS - 1))
if type(id) == 'table' then  -- another client has added an entry with the greatest possible id
    redis.call('DEL', KEYS[1])
    redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2 * #KEYS - 1))
end
redis.call('PEXPIRE', KEYS[1], 60000)
