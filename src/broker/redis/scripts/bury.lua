-- Strikes a replica off, if its counter still stands where it was seen.
--
-- KEYS  1 replicas
-- ARGV  1 replica  2 the counter
-- Answer: 1 struck off, 0 not.
--
-- One of those who watch succeeds; the replica itself finds out at its next beat.
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
