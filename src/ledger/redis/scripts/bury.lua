-- Sets tasks aside.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  per task: message, record, when (µs), generation of its requeueing or "".
-- Answers how many.
-- Keeps true: who is in `dead` is in `dead:order` and `dead:at` too; `dead:requeue` is of the task that is there now.
for at = 1, #ARGV, 4 do
  local message = ARGV[at]
  redis.call('HSET', '{lineshaft}:dead', message, ARGV[at + 1])
  redis.call('ZADD', '{lineshaft}:dead:order', 0, message)
  redis.call('ZADD', '{lineshaft}:dead:at', ARGV[at + 2], message)
  if ARGV[at + 3] == '' then
    redis.call('HDEL', '{lineshaft}:dead:requeue', message)
  else
    redis.call('HSET', '{lineshaft}:dead:requeue', message, ARGV[at + 3])
  end
end
return #ARGV / 4
