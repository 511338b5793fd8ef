-- Sets claims, if what stands under some names is still what was read.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  number of names to compare; per name: name, head or "" for none; then per name to set: name, head, what is open or
--       "", when it lapses (µs).
-- Answers 1 set, 0 something changed.
-- Keeps true: as claim.
local compared = tonumber(ARGV[1])
for at = 2, compared * 2, 2 do
  if (redis.call('HGET', '{lineshaft}:claims', ARGV[at]) or '') ~= ARGV[at + 1] then
    return 0
  end
end
for at = compared * 2 + 2, #ARGV, 4 do
  local name = ARGV[at]
  redis.call('HSET', '{lineshaft}:claims', name, ARGV[at + 1])
  redis.call('ZADD', '{lineshaft}:claims:lapse', ARGV[at + 3], name)
  if ARGV[at + 2] == '' then
    redis.call('HDEL', '{lineshaft}:claims:open', name)
  else
    redis.call('HSET', '{lineshaft}:claims:open', name, ARGV[at + 2])
  end
end
return 1
