-- The sessions that hold leases and do not exist; holders without leases are dropped on the way.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  the holders to look at.
-- Answers those that are no sessions and hold leases.
-- Keeps true: who holds a live lease is in `holders`.
local attached = redis.call('HMGET', '{lineshaft}:attach', unpack(ARGV))
local orphans, empty = {}, {}
for i, session in ipairs(ARGV) do
  if redis.call('EXISTS', '{lineshaft}:of:' .. session) == 0 then
    empty[#empty + 1] = session
  elseif not attached[i] then
    orphans[#orphans + 1] = session
  end
end
if #empty > 0 then
  redis.call('SREM', '{lineshaft}:holders', unpack(empty))
end
return orphans
