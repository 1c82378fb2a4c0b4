#!lua flags=allow-oom
-- clock: notes how far this server's clock has come, and what it says twice because it was set back: a node that starts later
-- can have seen neither. Runs when memory is full.
--
-- KEYS: the history. ARGV: the first and the last stamp that were said twice (microseconds), or '' for none.
local time = redis.call('TIME')
local known = redis.call('HMGET', KEYS[1], 'clock', 'twofold_from', 'twofold_to')
local now = time[1] * 1000000 + time[2]
if now > (tonumber(known[1] or '') or 0) then
  redis.call('HSET', KEYS[1], 'clock', string.format('%.0f', now))
end
if ARGV[1] ~= '' then
  local from = math.min(tonumber(known[2] or '') or math.huge, tonumber(ARGV[1]))
  local to = math.max(tonumber(known[3] or '') or 0, tonumber(ARGV[2]))
  redis.call('HSET', KEYS[1], 'twofold_from', string.format('%.0f', from), 'twofold_to', string.format('%.0f', to))
end
return 1
