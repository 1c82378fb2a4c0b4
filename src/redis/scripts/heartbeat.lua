#!lua flags=allow-oom
-- heartbeat: this node is alive; who was not for a while is dropped. By this server's clock alone. Runs when memory is full.
--
-- KEYS: the nodes. ARGV: this node's id, how long a silent node counts (ms).
-- Answers everybody alive: id, last beat (ms), id, last beat …
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - tonumber(ARGV[2])))
-- A beat that lies ahead is from before the clock was set back, and would outlive who died by as much.
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], string.format('(%.0f', now), '+inf', 'BYSCORE')) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now), id)
end
return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
