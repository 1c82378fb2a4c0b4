#!lua flags=allow-oom
-- release: gives back a lease under which nothing will be landed, so that nothing is left of a user nobody knows. Equals
-- `Guard::release`. Runs when memory is full: it only ever frees.
--
-- KEYS: the guard. ARGV: lease.
-- Answers 1 if the guard is gone.
if redis.call('HGET', KEYS[1], 'lease') ~= ARGV[1] then
  return 0
end
-- Others may hold the same lease, on other nodes; and a value's guard is needed as long as the value.
if redis.call('HINCRBY', KEYS[1], 'begun', -1) > 0 or redis.call('HEXISTS', KEYS[1], 'as_of') == 1 then
  return 0
end
return redis.call('DEL', KEYS[1])
