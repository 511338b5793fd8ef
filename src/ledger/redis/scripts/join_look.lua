-- Says when to look at joins next.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  per join: group, when (µs), how many of its members had ended when it was looked at.
-- Answers 0.
-- Keeps true: a join that became full since it was looked at stays due at once.
for at = 1, #ARGV, 3 do
  local is = redis.call('HMGET', '{lineshaft}:join:' .. ARGV[at], 'stage', 'ended', 'count')
  if is[1] and is[1] ~= 'c' then
    local ended = tonumber(is[2])
    if ended < tonumber(is[3]) or tonumber(ARGV[at + 2]) >= ended then
      redis.call('ZADD', '{lineshaft}:joins', ARGV[at + 1], ARGV[at])
    end
  end
end
return 0
