#!lua flags=allow-oom
-- append: adds one change to the stream, then trims what nobody may need any more. Runs when memory is full.
--
-- KEYS: the stream. ARGV: the change as JSON, the facts window (ms), how many entries are kept at most.
-- Answers the id of the entry.
local id = redis.call('XADD', KEYS[1], '*', 'change', ARGV[1])
local time = redis.call('TIME')
local oldest = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[2])
redis.call('XTRIM', KEYS[1], 'MINID', '~', string.format('%.0f', oldest))
redis.call('XTRIM', KEYS[1], 'MAXLEN', '~', ARGV[3])
return id
