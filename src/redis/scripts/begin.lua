#!lua
-- begin: takes the lease of a user before the origin is asked, making one if there is none. Equals `Guard::begin`.
-- Unflagged: a full Redis refuses it, which costs only the shared copy.
--
-- KEYS: the guard. ARGV: a fresh token, how long the guard must live at least (ms).
-- Answers {lease, seconds, microseconds}: the time is the as-of of the reading that follows.
local time = redis.call('TIME')
-- A guard that is no hash, or counts in words, was not written by us.
local kind = redis.call('TYPE', KEYS[1])['ok']
local is_ours = kind == 'none' or (kind == 'hash' and tonumber(redis.call('HGET', KEYS[1], 'begun') or '0'))
if not is_ours then
  redis.call('DEL', KEYS[1])
end
local lease = redis.call('HGET', KEYS[1], 'lease')
if not lease then
  lease = ARGV[1]
  redis.call('HSET', KEYS[1], 'lease', lease)
end
-- How many may still land under it, so that the last one can give it back.
redis.call('HINCRBY', KEYS[1], 'begun', 1)
-- A longer life, given by a value that landed, is never shortened.
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return {lease, time[1], time[2]}
