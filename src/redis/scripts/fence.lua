#!lua flags=allow-oom
-- fence: a write that replicas can be waited for with: who confirms it followed this primary when it was asked. Runs when
-- memory is full.
--
-- KEYS: the fence. ARGV: this node's token.
-- Answers how many replicas there are that have all that was written before they came: each may be the next primary. One
-- whose connection broke unnoticed is listed twice, under one address.
redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000)
local seen, count = {}, 0
for address in string.gmatch(redis.call('INFO', 'replication'), 'slave%d+:(ip=[^,]+,port=%d+),state=online') do
  if not seen[address] then
    seen[address] = true
    count = count + 1
  end
end
return count
