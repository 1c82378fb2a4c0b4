#!lua flags=allow-oom
-- hold: takes the right to put a lost history back, or renews it. Runs when memory is full.
--
-- KEYS: the right. ARGV: this node's id, how long it lasts (ms).
-- Answers 1 if it is this node's.
local holder = redis.call('GET', KEYS[1])
-- A right that lasts longer than any was given is from before the clock was set back, and would outlive a holder that died.
if holder and holder ~= ARGV[1] and redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[2]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
