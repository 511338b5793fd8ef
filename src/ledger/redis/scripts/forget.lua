-- Forgets records that are past their time. Behind `due.lua`.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  now in µs, less than 1e16; about how many, up to 1,000.
-- Answers how many.
-- Keeps true: before 1e16 only released and done records are in `ends`, each at a moment at which it may be forgotten or
--       before.
local sub, byte = string.sub, string.byte
local now = tonumber(ARGV[1])
return forget_due('{lineshaft}:ends', '{lineshaft}:records', '{lineshaft}:blobs', function(head)
  local kind = byte(head)
  -- One that was released, and decided before it was forgotten, has two entries: the later one counts.
  return kind == 82 or (kind == 68 and tonumber(sub(head, 50, 65)) + tonumber(sub(head, 66, 82)) <= now)
end)
