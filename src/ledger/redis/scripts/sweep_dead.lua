-- Forgets dead tasks that were set aside before a moment, oldest first.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  the moment, µs; at most how many, up to 1,000.
-- Answers how many.
-- Keeps true: as bury.
local past = redis.call('ZRANGEBYSCORE', '{lineshaft}:dead:at', '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
if #past > 0 then
  redis.call('ZREM', '{lineshaft}:dead:at', unpack(past))
  redis.call('ZREM', '{lineshaft}:dead:order', unpack(past))
  redis.call('HDEL', '{lineshaft}:dead', unpack(past))
  redis.call('HDEL', '{lineshaft}:dead:requeue', unpack(past))
end
return #past
