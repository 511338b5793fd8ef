-- Forgets records that are past their time.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  now in µs, less than 1e16; about how many, up to 1,000: what one entry names is forgotten together.
-- Answers how many.
-- Keeps true: before 1e16 only released and done records are in `ends`, each at a moment at which it may be forgotten or
--       before. An entry is a message; or, for decisions that were recorded together, \1 and their messages, \1 between them.
local sub, byte = string.sub, string.byte
local now, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local due = redis.call('ZRANGEBYSCORE', '{lineshaft}:ends', '-inf', ARGV[1], 'LIMIT', 0, most)
local gone, forgotten = {}, {}
for _, entry in ipairs(due) do
  if #forgotten >= most then
    break
  end
  gone[#gone + 1] = entry
  local messages = {}
  if byte(entry) == 1 then
    for message in string.gmatch(entry, '[^\1]+') do
      messages[#messages + 1] = message
    end
  else
    messages[1] = entry
  end
  for i, head in ipairs(redis.call('HMGET', '{lineshaft}:records', unpack(messages))) do
    local kind = head and byte(head)
    -- One that was released, and decided before it was forgotten, has two entries: the later one counts.
    if kind == 82 or (kind == 68 and tonumber(sub(head, 50, 65)) + tonumber(sub(head, 66, 82)) <= now) then
      forgotten[#forgotten + 1] = messages[i]
    end
  end
end
if #gone > 0 then
  redis.call('ZREM', '{lineshaft}:ends', unpack(gone))
end
if #forgotten > 0 then
  redis.call('HDEL', '{lineshaft}:records', unpack(forgotten))
  redis.call('HDEL', '{lineshaft}:blobs', unpack(forgotten))
end
return #forgotten
