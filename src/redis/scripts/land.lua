#!lua
-- land: makes a reading the value, if its lease is still the guard's and no later reading is there. Equals `Guard::land`, but
-- for a clock that was set back.
-- Unflagged: a full Redis refuses it, which costs only the shared copy.
--
-- KEYS: the value, the guard.
-- ARGV: lease, as-of (microseconds of this server's clock), digest, body, TTL (ms), life beyond which it must not be kept
-- (ms), how much longer the guard lives (ms), how old the reading is (ms) where the as-of is of another server's clock.
-- Answers 'landed', 'lease' or 'newer'.

local lease = redis.call('HGET', KEYS[2], 'lease')
-- Absent never equals absent.
if not lease then return 'lease' end -- rule redis-1a
if lease and lease ~= ARGV[1] then
  return 'lease'
end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if ARGV[8] then now = tonumber(ARGV[2]) + tonumber(ARGV[8]) * 1000 end
-- without redis-3: ARGV[2] = string.format('%.0f', now)
-- An as-of that is no number was not written by us; one that lies ahead, by more than two estimates of that clock may differ,
-- is from before it was set back, and would keep everything out until it has caught up. Neither refuses anything.
local landed = tonumber(redis.call('HGET', KEYS[2], 'as_of') or '')
if landed and landed > tonumber(ARGV[2]) and landed <= now + 1000000 then
  return 'newer'
end

-- The TTL counts from the as-of, whoever lands the reading and whenever.
local age = math.ceil((now - tonumber(ARGV[2])) / 1000)
-- without redis-4a: age = 0
local ttl = tonumber(ARGV[5])
local life = math.max(1000, math.min(ttl - age, ttl, tonumber(ARGV[6])))

redis.call('SET', KEYS[1], ARGV[4], 'PX', life)
redis.call('HSET', KEYS[2], 'as_of', ARGV[2], 'digest', ARGV[3])
local guard_life = life + tonumber(ARGV[7])
if redis.call('PTTL', KEYS[2]) < guard_life then
  redis.call('PEXPIRE', KEYS[2], guard_life)
end
return 'landed'
