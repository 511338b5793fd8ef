-- Writes some of the members of a join that is to be opened, under a name of its own.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  the name; ms until they are forgotten, unless more are written or the join is opened; members.
-- Answers how many there are.
local members, ends_key = '{lineshaft}:join-new:members:' .. ARGV[1], '{lineshaft}:join-new:ends:' .. ARGV[1]
local ends = {}
for i = 3, #ARGV do
  ends[i * 2 - 5], ends[i * 2 - 4] = ARGV[i], ''
end
local count = redis.call('RPUSH', members, unpack(ARGV, 3))
redis.call('HSET', ends_key, unpack(ends))
redis.call('PEXPIRE', members, ARGV[2])
redis.call('PEXPIRE', ends_key, ARGV[2])
return count
