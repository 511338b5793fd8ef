-- Says that what follows joins is done.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  now in µs; groups.
-- Answers how many were not closed before.
-- Keeps true: a closed join is in `joins:forget`, and no longer in `joins`.
local closed = 0
for at = 2, #ARGV do
  local group = ARGV[at]
  local key = '{lineshaft}:join:' .. group
  local is = redis.call('HMGET', key, 'stage', 'keep')
  if is[1] and is[1] ~= 'c' then
    -- Up to 2^53 numbers of Lua are exact.
    local forget_at = math.min(tonumber(ARGV[1]) + tonumber(is[2]), 9e15)
    redis.call('ZADD', '{lineshaft}:joins:forget', string.format('%.0f', forget_at), group)
    redis.call('ZREM', '{lineshaft}:joins', group)
    redis.call('HSET', key, 'stage', 'c')
    redis.call('HDEL', key, 'firing')
    redis.call('UNLINK', '{lineshaft}:join-ends:' .. group)
    closed = closed + 1
  end
end
return closed
