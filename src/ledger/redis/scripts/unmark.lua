-- Takes marks away, unless a later sending of the task was marked since.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  per mark: task, generation (20 digits).
-- Answers how many.
-- Keeps true: as mark.
local unmarked = 0
for at = 1, #ARGV, 2 do
  local task = ARGV[at]
  local stored = redis.call('HGET', '{lineshaft}:marks', task)
  if stored and stored <= ARGV[at + 1] then
    redis.call('HDEL', '{lineshaft}:marks', task)
    redis.call('ZREM', '{lineshaft}:marks:order', task)
    unmarked = unmarked + 1
  end
end
return unmarked
