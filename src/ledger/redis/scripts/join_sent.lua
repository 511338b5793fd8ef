-- Says that all members of joins are sent.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  groups.
-- Answers how many were being sent.
local sent = 0
for _, group in ipairs(ARGV) do
  if redis.call('HGET', '{lineshaft}:join:' .. group, 'stage') == 's' then
    redis.call('HSET', '{lineshaft}:join:' .. group, 'stage', 'o')
    sent = sent + 1
  end
end
return sent
