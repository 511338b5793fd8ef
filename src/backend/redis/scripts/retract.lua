-- Removes states that are still exactly of an order.
--
-- KEYS: the keys. ARGV: the order of each.
-- Answers how many went.
--
-- Keeps true: what anybody wrote since stays.

local ORDER = 44
local found = redis.call('MGET', unpack(KEYS))
local gone = {}
for i, key in ipairs(KEYS) do
  local stored = found[i]
  if stored and string.sub(stored, -ORDER - 3, -4) == ARGV[i] and string.sub(stored, -3) == '"}}' then
    gone[#gone + 1] = key
  end
end
return #gone > 0 and redis.call('DEL', unpack(gone)) or 0
