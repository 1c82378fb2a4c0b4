#!lua flags=allow-oom
-- whole: what was lost is applied again, so the history can be trusted from its beginning; unless it was lost once more
-- meanwhile. Runs when memory is full.
--
-- KEYS: the history, the right to put it back. ARGV: this node's id, the replication id and the since that were in doubt.
-- Answers 1 if it is whole now.
local info = redis.call('INFO', 'replication')
local known = redis.call('HMGET', KEYS[1], 'replid', 'since')
local is_same = known[1] == ARGV[2] and known[2] == ARGV[3] and string.match(info, 'master_replid:(%w+)') == ARGV[2]
-- without fence-12: is_same = true
local is_held = redis.call('GET', KEYS[2]) == ARGV[1]
if is_held then
  redis.call('DEL', KEYS[2])
end
-- Without the right somebody else is at it, and may have begun after more was lost.
if not (is_same and is_held) then
  return 0
end
redis.call('HSET', KEYS[1], 'whole', '1')
return 1
