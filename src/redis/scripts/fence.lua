#!lua flags=allow-oom
-- fence: a write that replicas can be waited for with: who confirms it followed this primary when it was asked. Runs when
-- memory is full.
--
-- KEYS: the fence. ARGV: this node's token.
redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000)
return 1
