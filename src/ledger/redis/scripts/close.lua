-- Ends a session, unless it was renewed.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  session, the renewal number it must have, or "" for any.
-- Answers nothing if it was renewed, else the messages of its live leases.
-- Keeps true: nothing is granted to a session that is closed, as no `attach` is found for it.
local session = ARGV[1]
local number = redis.call('HGET', '{lineshaft}:renewals', session)
if number and ARGV[2] ~= '' and number ~= ARGV[2] then
  return false
end
redis.call('HDEL', '{lineshaft}:sessions', session)
redis.call('HDEL', '{lineshaft}:attach', session)
redis.call('HDEL', '{lineshaft}:renewals', session)
redis.call('ZREM', '{lineshaft}:sessions:order', session)
return redis.call('SMEMBERS', '{lineshaft}:of:' .. session)
