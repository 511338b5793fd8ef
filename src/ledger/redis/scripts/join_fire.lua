-- Records what follows joins.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  per join: group, what follows.
-- Answers per join: 0 recorded; 1 it is closed or not known; what was recorded before.
-- Keeps true: what was recorded first stays.
local answers = {}
for at = 1, #ARGV, 2 do
  local key = '{lineshaft}:join:' .. ARGV[at]
  local is = redis.call('HMGET', key, 'stage', 'firing')
  if not is[1] or is[1] == 'c' then
    answers[#answers + 1] = 1
  elseif is[2] then
    answers[#answers + 1] = is[2]
  else
    redis.call('HSET', key, 'stage', 'f', 'firing', ARGV[at + 1])
    answers[#answers + 1] = 0
  end
end
return answers
