-- Records a session, new or attached again with a higher number.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  session, attach (20 digits), record, "1" if the attach is the first one.
-- Answers 1 recorded, 0 refused.
-- Keeps true: the number of attaches only grows; an attach counts as a renewal; who is in `sessions` is in `attach`,
--       `renewals` and `sessions:order` too.
local session, attach = ARGV[1], ARGV[2]
local stored = redis.call('HGET', '{lineshaft}:attach', session)
if stored and stored >= attach or not stored and ARGV[4] ~= '1' then
  return 0
end
redis.call('HSET', '{lineshaft}:sessions', session, ARGV[3])
redis.call('HSET', '{lineshaft}:attach', session, attach)
if stored then
  redis.call('HINCRBY', '{lineshaft}:renewals', session, 1)
else
  redis.call('HSET', '{lineshaft}:renewals', session, 0)
  redis.call('ZADD', '{lineshaft}:sessions:order', 0, session)
end
return 1
