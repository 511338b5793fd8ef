-- Forgets claims that have lapsed.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  now in µs; about how many, up to 1,000: what one entry names is forgotten together.
-- Answers how many.
-- Keeps true: as claim. An entry is a name; or, for sends that were claimed together, \1 and their names, \1 between them.
local now, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local due = redis.call('ZRANGEBYSCORE', '{lineshaft}:claims:lapse', '-inf', ARGV[1], 'LIMIT', 0, most)
local gone, past = {}, {}
for _, entry in ipairs(due) do
  if #past >= most then
    break
  end
  gone[#gone + 1] = entry
  local names = {}
  if string.byte(entry) == 1 then
    for name in string.gmatch(entry, '[^\1]+') do
      names[#names + 1] = name
    end
  else
    names[1] = entry
  end
  for i, head in ipairs(redis.call('HMGET', '{lineshaft}:claims', unpack(names))) do
    -- A name that was claimed anew has an entry of its own.
    if head and tonumber(string.sub(head, 3, 19)) <= now then
      past[#past + 1] = names[i]
    end
  end
end
if #gone > 0 then
  redis.call('ZREM', '{lineshaft}:claims:lapse', unpack(gone))
end
if #past > 0 then
  redis.call('HDEL', '{lineshaft}:claims', unpack(past))
  redis.call('HDEL', '{lineshaft}:claims:open', unpack(past))
end
return #past
