-- Records decisions, each under the last lease of its message, live or released.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  number of decisions, number of tasks that are set aside; per decision: message, head, effects; per task that is
--       set aside: number of its decision, message, record, when (µs), generation of its requeueing or ""; per lifetime:
--       number of its decision, "1" if it begins or "0" if it ends with it, entry.
-- Answers 1 if all are recorded, else per decision: 1 recorded, 2 the same before, 3 superseded or not known, 4 decided
--       otherwise.
-- Keeps true: the first decision stands; what `of` and `leased` say of live leases; a decision is in `ends`, 1e16 behind
--       its time until its effects are done.
local call, byte, sub, find = redis.call, string.byte, string.sub, string.find
local argv = ARGV
local decisions, dead = tonumber(argv[1]), tonumber(argv[2])

local messages = {}
for i = 1, decisions do
  messages[i] = argv[i * 3]
end
local heads = call('HMGET', '{lineshaft}:records', unpack(messages))

local answers, ended = {}, {}
local records, blobs, ends = {}, {}, {}
local holders = {}
for i = 1, decisions do
  local at = i * 3
  local message, new = messages[i], argv[at + 1]
  local head = ended[message] or heads[i]
  if not head or sub(head, 2, 17) ~= sub(new, 2, 17) then
    answers[i] = 3
  else
    local kind = byte(head)
    if kind == 68 then
      local is_same = sub(head, 18, 49) == sub(new, 18, 49) or (#new > 85 and sub(head, 86) == sub(new, 86))
      answers[i] = is_same and 2 or 4
    else
      if kind == 76 then
        -- Session and queue: most of a batch have the same.
        local p = find(head, '\1', 18, true)
        local q = p and find(head, '\1', p + 1, true)
        if not q then
          return redis.error_reply('CORRUPT the record of a message cannot be read: ' .. message)
        end
        local key = sub(head, 18, q - 1)
        local of = holders[key]
        if not of then
          of = { session = sub(head, 18, p - 1), queue = sub(head, p + 1, q - 1) }
          holders[key] = of
        end
        of[#of + 1] = message
      end
      ended[message] = new
      answers[i] = 1
      local n = #records
      records[n + 1], records[n + 2] = message, new
      blobs[n + 1], blobs[n + 2] = message, argv[at + 2]
      -- The first 17 digits of its time are µs; put as text, as writing a number costs more than all the rest.
      ends[n + 1], ends[n + 2] = '1' .. sub(new, 67, 82), message
    end
  end
end
if #records == 0 then
  return answers
end

call('HSET', '{lineshaft}:records', unpack(records))
call('HSET', '{lineshaft}:blobs', unpack(blobs))
call('ZADD', '{lineshaft}:ends', unpack(ends))
for _, of in pairs(holders) do
  call('SREM', '{lineshaft}:of:' .. of.session, unpack(of))
  if call('HINCRBY', '{lineshaft}:leased', of.queue, -#of) <= 0 then
    call('HDEL', '{lineshaft}:leased', of.queue)
  end
end
local rest = decisions * 3 + 3
for at = rest, rest + dead * 5 - 1, 5 do
  if answers[tonumber(argv[at])] == 1 then
    local message = argv[at + 1]
    call('HSET', '{lineshaft}:dead', message, argv[at + 2])
    call('ZADD', '{lineshaft}:dead:order', 0, message)
    call('ZADD', '{lineshaft}:dead:at', argv[at + 3], message)
    if argv[at + 4] == '' then
      call('HDEL', '{lineshaft}:dead:requeue', message)
    else
      call('HSET', '{lineshaft}:dead:requeue', message, argv[at + 4])
    end
  end
end
-- In their order: one that ends a lifetime may be behind one that begins it.
for at = rest + dead * 5, #argv, 3 do
  if answers[tonumber(argv[at])] == 1 then
    if argv[at + 1] == '1' then
      call('ZADD', '{lineshaft}:lifetimes', 0, argv[at + 2])
    else
      call('ZREM', '{lineshaft}:lifetimes', argv[at + 2])
    end
  end
end
return #records == decisions * 2 and 1 or answers
