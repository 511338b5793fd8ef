-- Ends live leases without a decision.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  when records that are released now may be forgotten, µs; then per item: message, token (16 digits), ending as in a
--       head, when it was noticed (unix ns; lost ones only).
-- Answers per item: 1 recorded, 2 the same before, 3 superseded or not known, 4 it ended otherwise.
-- Keeps true: what `of` and `leased` say of live leases; a released record is in `ends`.
local call, byte, sub, find = redis.call, string.byte, string.sub, string.find
local argv = ARGV
local items = (#argv - 1) / 4

local messages = {}
for i = 1, items do
  messages[i] = argv[i * 4 - 2]
end
local heads = call('HMGET', '{lineshaft}:records', unpack(messages))

local answers, ended = {}, {}
local records, gone, counts, ends = {}, {}, {}, {}
for i = 1, items do
  local at = i * 4 - 2
  local message, ending = messages[i], argv[at + 2]
  local head = ended[message] or heads[i]
  local kind = head and byte(head)
  if not head or sub(head, 2, 17) ~= argv[at + 1] then
    answers[i] = 3
  elseif kind == 68 then
    answers[i] = 4
  else
    local a = find(head, '\2', 18, true)
    local b = a and find(head, '\2', a + 1, true)
    local c = b and find(head, '\2', b + 1, true)
    local d = c and find(head, '\2', c + 1, true)
    local p = find(head, '\1', 18, true)
    local q = p and find(head, '\1', p + 1, true)
    if not (d and q) then
      return redis.error_reply('CORRUPT the record of a message cannot be read: ' .. message)
    end
    if kind == 82 then
      answers[i] = sub(head, c + 1, d - 1) == ending and 2 or 4
    else
      local releases, history = sub(head, b + 1, c - 1), sub(head, d + 1)
      if ending == 'l' then
        history = history .. sub(head, a + 1, b - 1) .. '\3' .. argv[at + 3] .. '\3' .. sub(head, q + 1, a - 1) .. '\4'
      else
        releases = string.format('%.0f', math.min(tonumber(releases) + 1, 4294967295))
      end
      head = 'R' .. sub(head, 2, b) .. releases .. '\2' .. ending .. '\2' .. history
      ended[message] = head
      answers[i] = 1
      records[#records + 1], records[#records + 2] = message, head
      ends[#ends + 1], ends[#ends + 2] = argv[1], message
      local session, queue = sub(head, 18, p - 1), sub(head, p + 1, q - 1)
      gone[session] = gone[session] or {}
      table.insert(gone[session], message)
      counts[queue] = (counts[queue] or 0) + 1
    end
  end
end
if #records == 0 then
  return answers
end

call('HSET', '{lineshaft}:records', unpack(records))
call('ZADD', '{lineshaft}:ends', unpack(ends))
for session, of in pairs(gone) do
  call('SREM', '{lineshaft}:of:' .. session, unpack(of))
end
for queue, count in pairs(counts) do
  if call('HINCRBY', '{lineshaft}:leased', queue, -count) <= 0 then
    call('HDEL', '{lineshaft}:leased', queue)
  end
end
return answers
