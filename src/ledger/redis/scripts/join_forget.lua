-- Forgets joins.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  groups.
-- Answers how many.
-- Keeps true: nothing of a join stays. What is large is freed beside (UNLINK).
for _, group in ipairs(ARGV) do
  redis.call('ZREM', '{lineshaft}:joins', group)
  redis.call('ZREM', '{lineshaft}:joins:forget', group)
  redis.call(
    'UNLINK', '{lineshaft}:join:' .. group, '{lineshaft}:join-members:' .. group, '{lineshaft}:join-ends:' .. group
  )
end
return #ARGV
