-- Records the generations under which dead tasks are requeued; the first one of a task stands.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  per task: message, generation.
-- Answers nothing of interest: who reads the tasks afterwards reads what stands.
for at = 1, #ARGV, 2 do
  if redis.call('HEXISTS', '{lineshaft}:dead', ARGV[at]) == 1 then
    redis.call('HSETNX', '{lineshaft}:dead:requeue', ARGV[at], ARGV[at + 1])
  end
end
return 1
