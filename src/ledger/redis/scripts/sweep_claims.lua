-- Forgets claims that have lapsed. Behind `due.lua`.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  now in µs; about how many, up to 1,000.
-- Answers how many.
-- Keeps true: as claim.
local now = tonumber(ARGV[1])
return forget_due('{lineshaft}:claims:lapse', '{lineshaft}:claims', '{lineshaft}:claims:open', function(head)
  -- A name that was claimed anew has an entry of its own.
  return tonumber(string.sub(head, 3, 19)) <= now
end)
