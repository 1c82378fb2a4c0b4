#!lua flags=allow-oom
-- let_go: gives the right to put a lost history back to whoever asks next. Runs when memory is full.
--
-- KEYS: the right. ARGV: this node's id.
-- Answers 1 if it was this node's.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
