#!lua flags=no-writes,allow-oom
-- tail: everything a node needs to know to move its fence, in one piece.
--
-- KEYS: the stream, its history.
-- ARGV: the last applied id, or '' to load the facts window; the facts window (ms); how many entries at most.
-- Answers {seconds, microseconds, role, replication id,
-- {last id, entries ever added, entries left, the first of them or '', the latest deleted by id} or nil,
-- {replid, since, whole, instance} of the history, {clock, twofold} noted beside it, the id asked after, the
-- entries}.
local time = redis.call('TIME')
-- ROLE is refused in scripts; INFO tells the same.
local info = redis.call('INFO', 'replication')

local after = ARGV[1]
if after == '' then
  local start = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[2])
  after = string.format('%.0f', start) .. '-0'
end

local stream = false
local entries = {}
if redis.call('EXISTS', KEYS[1]) == 1 then
  local facts = redis.call('XINFO', 'STREAM', KEYS[1])
  local found = {}
  for i = 1, #facts, 2 do
    found[facts[i]] = facts[i + 1]
  end
  local first = found['first-entry']
  stream = {
    found['last-generated-id'], found['entries-added'], found['length'], first and first[1] or '',
    found['max-deleted-entry-id'],
  }
  entries = redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', ARGV[3])
end

return {
  time[1], time[2], string.match(info, 'role:(%a+)'), string.match(info, 'master_replid:(%w+)'), stream,
  redis.call('HMGET', KEYS[2], 'replid', 'since', 'whole', 'instance'),
  redis.call('HMGET', KEYS[2], 'clock', 'twofold'), after, entries,
}
