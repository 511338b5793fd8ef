-- The beginning of a script that records decisions: which of them stand. Writes nothing. Before it stands `stride`: how many
-- arguments a decision has.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  number of decisions, number of tasks that are set aside, number of lifetimes; per decision: message, head, and what
--       the rest of the script says; per task that is set aside: number of its decision, message, record, when (µs),
--       generation of its requeueing or ""; per lifetime: number of its decision, "1" if it begins or "0" if it ends with
--       it, entry.
-- Answers, in `answers`, per decision: 1 recorded, 2 the same before, 3 superseded or not known, 4 decided otherwise.
-- Keeps true: the first decision stands.
local call, byte, sub, find = redis.call, string.byte, string.sub, string.find
local argv = ARGV
local decisions, dead, lifetimes = tonumber(argv[1]), tonumber(argv[2]), tonumber(argv[3])

local messages = {}
for i = 1, decisions do
  messages[i] = argv[(i - 1) * stride + 4]
end
local heads = call('HMGET', '{lineshaft}:records', unpack(messages))

local answers, ended = {}, {}
-- Pairs of message and head; and the number of each decision that is recorded.
local records, recorded = {}, {}
local holders = {}
for i = 1, decisions do
  local message, new = messages[i], argv[(i - 1) * stride + 5]
  local head = ended[message] or heads[i]
  if not head or find(head, sub(new, 2, 17), 2, true) ~= 2 then
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
      recorded[#recorded + 1] = i
    end
  end
end
