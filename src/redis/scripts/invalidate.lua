#!lua flags=allow-oom
-- invalidate: a change of the user passes. Equals `Guard::invalidate`. It compares nothing and runs when memory is full.
--
-- KEYS: the value, the guard. ARGV: a fresh token, how long the guard must live at least (ms).

-- The value goes first: whatever stops this script half-way, the old value is gone.
redis.call('DEL', KEYS[1]) -- rule redis-2a
local left = redis.call('PTTL', KEYS[2])
-- The new lease empties the guard: no as-of that could refuse the truth, no digest that could vouch for an old value.
redis.call('DEL', KEYS[2]) -- rule redis-2b
redis.call('HSET', KEYS[2], 'lease', ARGV[1]) -- rule redis-2b
redis.call('PEXPIRE', KEYS[2], math.max(left, tonumber(ARGV[2])))
return 1
