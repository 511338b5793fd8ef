-- Forgets dead tasks.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  the messages.
-- Answers per message: 1 forgotten, 0 there was none.
-- Keeps true: as bury.
local answers = {}
for i, message in ipairs(ARGV) do
  answers[i] = redis.call('HDEL', '{lineshaft}:dead', message)
end
redis.call('ZREM', '{lineshaft}:dead:order', unpack(ARGV))
redis.call('ZREM', '{lineshaft}:dead:at', unpack(ARGV))
redis.call('HDEL', '{lineshaft}:dead:requeue', unpack(ARGV))
return answers
