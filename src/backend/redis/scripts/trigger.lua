-- Replaces the record of a group, if it is still what was read.
--
-- KEYS  1 the group; on one server 2 the lock that Machinery's workers take while they look at such a record.
-- ARGV  1 the record as it was read  2 the record  3 how long it is kept, seconds  4 1: the second key is that lock; 0: we have it.
-- Answers 1 replaced, 0 it is another by now, 2 somebody has the lock.
--
-- Keeps true: what another program wrote since is not overwritten, and nobody who has the lock is overtaken.
if ARGV[4] == '1' and redis.call('EXISTS', KEYS[2]) == 1 then
  return 2
end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
