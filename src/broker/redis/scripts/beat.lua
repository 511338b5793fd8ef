-- Says that a replica lives, and tells of all.
--
-- KEYS  1 replicas
-- ARGV  1 replica
-- Answer: 0 if the replica is not among them (it was taken for dead), else 1; then id and counter of each.
--
-- A replica that is missing must not appear again under its old id: what it held was given to others.
local known = redis.call('HEXISTS', KEYS[1], ARGV[1])
if known == 1 then redis.call('HINCRBY', KEYS[1], ARGV[1], 1) end
local answer = redis.call('HGETALL', KEYS[1])
table.insert(answer, 1, known)
return answer
