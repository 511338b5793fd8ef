-- Takes from the list of what ended, at its old end, entries whose states have all expired, and what is beyond its size.
--
-- KEYS  1 the list.
-- ARGV  1 now, 20 digits of unix ns  2 most bytes of the list  3 most entries that one call takes away.
-- Answers how many entries went.
--
-- Keeps true: what is not expired stays, unless the list is too large.
local key, now, most = KEYS[1], ARGV[1], tonumber(ARGV[3])
local length = redis.call('XLEN', key)
if length == 0 then
  return 0
end

-- How many entries are too many. A server that does not tell (a user without the right to ask) is taken to use 8 KiB an
-- entry: two full nodes of a list.
local function beyond()
  local used = redis.pcall('MEMORY', 'USAGE', key, 'SAMPLES', '1000')
  used = type(used) == 'number' and used or length * 8192
  return math.ceil(length * (1 - tonumber(ARGV[2]) / used))
end

local function has_expired(entry)
  return entry[2][1] <= now
end

-- Mostly nothing has expired, and then one entry is read.
local gone = 0
for _, count in ipairs({ 1, most }) do
  local entries = redis.call('XRANGE', key, '-', '+', 'COUNT', count)
  gone = 0
  while gone < #entries and has_expired(entries[gone + 1]) do
    gone = gone + 1
  end
  if gone == 0 then
    break
  end
end

-- What is too large is looked at when nothing expires any more: that costs as much as reading some entries.
if gone == 0 then
  gone = math.max(0, math.min(beyond(), most))
end
if gone > 0 then
  redis.call('XTRIM', key, 'MAXLEN', length - gone)
end
return gone
