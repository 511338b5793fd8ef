-- Forgets claims that have lapsed.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  now in µs; at most how many, up to 1,000.
-- Answers how many.
-- Keeps true: as claim.
local past = redis.call('ZRANGEBYSCORE', '{lineshaft}:claims:lapse', '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #past > 0 then
  redis.call('ZREM', '{lineshaft}:claims:lapse', unpack(past))
  redis.call('HDEL', '{lineshaft}:claims', unpack(past))
  redis.call('HDEL', '{lineshaft}:claims:open', unpack(past))
end
return #past
