-- Gives a lock back, if it is still ours.
--
-- KEYS  1 the lock.
-- ARGV  1 what it holds while it is ours.
-- Answers 1 given back, 0 it has expired.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
