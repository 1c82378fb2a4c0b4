#!lua flags=allow-oom
-- clock: notes how far this server's clock has come, and what it says twice because it was set back: a node that starts later
-- can have seen neither. Runs when memory is full.
--
-- KEYS: the history. ARGV: the ranges of stamps that are said twice (`first-last,first-last`, microseconds) or '', the last
-- stamp in them or 0.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local known = tonumber(redis.call('HGET', KEYS[1], 'clock') or '') or 0
-- What it said before it was set back the ranges say.
if now > known or known <= tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'clock', string.format('%.0f', now))
end
if ARGV[1] ~= '' then
  redis.call('HSET', KEYS[1], 'twofold', ARGV[1])
end
return 1
