#!lua flags=allow-oom
-- history: says whose stream this is and since when it can be trusted, if acknowledged changes may be lost; and makes the
-- stream exist. The second node that sees the same break changes nothing. Runs when memory is full.
--
-- KEYS: the stream, its history.
-- ARGV: '1' if the caller saw a shorter stream than it knew, or none, '2' if it may have left acknowledged changes at another primary;
-- the `since` it knew before (or ''), the Clerk instance (or '').
-- Answers {replid, since, whole, instance}.
local info = redis.call('INFO', 'replication')
local replid = string.match(info, 'master_replid:(%w+)')
local known = redis.call('HMGET', KEYS[2], 'replid', 'since')
local is_missing = redis.call('EXISTS', KEYS[1]) == 0
-- A shorter stream cannot be seen from here, so the caller's word is taken, unless somebody gave his after the caller's
-- last look.
local is_shorter = ARGV[1] == '1' and (known[2] or '') == ARGV[2]
-- What a caller left elsewhere nobody else can know of.
local is_left = ARGV[1] == '2'

if is_missing or is_shorter or is_left or known[1] ~= replid then
  local time = redis.call('TIME')
  local since = string.format('%.0f', time[1] * 1000000 + time[2])
  redis.call('HSET', KEYS[2], 'replid', replid, 'since', since, 'whole', '0')
end
if is_missing then
  -- An entry that every reader skips. A stream made by it has an id of its own, so no two incarnations look alike.
  redis.call('XADD', KEYS[1], '*', 'history', replid)
end
if ARGV[3] ~= '' then
  redis.call('HSETNX', KEYS[2], 'instance', ARGV[3])
end
return redis.call('HMGET', KEYS[2], 'replid', 'since', 'whole', 'instance')
