-- Says that messages are published: their claims no longer hold what was sent, and lapse when they were asked to.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  per claim: name, message and \1.
-- Answers how many changed.
-- Keeps true: as claim.
local names = {}
for at = 1, #ARGV, 2 do
  names[#names + 1] = ARGV[at]
end
local stored = redis.call('HMGET', '{lineshaft}:claims', unpack(names))
local heads, lapse, done = {}, {}, {}
for i, name in ipairs(names) do
  local head, message = stored[i], ARGV[i * 2]
  if head and string.byte(head) == 79 and string.sub(head, 43, 42 + #message) == message then
    local kept = string.sub(head, 23, 42)
    heads[#heads + 1], heads[#heads + 2] = name, 'P-' .. kept .. kept .. string.sub(head, 43)
    -- The first 17 digits are µs; a part of one more counts as one.
    local at = tonumber(string.sub(kept, 1, 17)) + (string.sub(kept, 18) == '000' and 0 or 1)
    lapse[#lapse + 1], lapse[#lapse + 2] = string.format('%.0f', math.min(at, 9e15)), name
    done[#done + 1] = name
  end
end
if #done > 0 then
  redis.call('HSET', '{lineshaft}:claims', unpack(heads))
  redis.call('ZADD', '{lineshaft}:claims:lapse', unpack(lapse))
  redis.call('HDEL', '{lineshaft}:claims:open', unpack(done))
end
return #done
