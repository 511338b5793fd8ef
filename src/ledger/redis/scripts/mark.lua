-- Marks tasks as cancelled: the latest generation stands.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  per mark: task, generation (20 digits).
-- Answers how many are new or later.
-- Keeps true: who is in `marks` is in `marks:order` too.
local marked = 0
for at = 1, #ARGV, 2 do
  local task, generation = ARGV[at], ARGV[at + 1]
  local stored = redis.call('HGET', '{lineshaft}:marks', task)
  if not stored or stored < generation then
    redis.call('HSET', '{lineshaft}:marks', task, generation)
    redis.call('ZADD', '{lineshaft}:marks:order', 0, task)
    marked = marked + 1
  end
end
return marked
