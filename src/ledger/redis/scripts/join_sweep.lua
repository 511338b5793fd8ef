-- Forgets closed joins that are past their time.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  now in µs; at most how many.
-- Answers how many.
-- Keeps true: as `join_forget.lua`.
local due = redis.call('ZRANGEBYSCORE', '{lineshaft}:joins:forget', '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, group in ipairs(due) do
  redis.call(
    'UNLINK', '{lineshaft}:join:' .. group, '{lineshaft}:join-members:' .. group, '{lineshaft}:join-ends:' .. group
  )
end
if #due > 0 then
  redis.call('ZREM', '{lineshaft}:joins:forget', unpack(due))
end
return #due
