-- Marks the effects of decisions done: from now on they are kept for their time, then forgotten.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  now in µs; the messages.
-- Answers nothing of interest.
-- Keeps true: a decision is in `ends`, from the first mark on with the moment at which it is forgotten.
local call, byte, sub = redis.call, string.byte, string.sub
local argv = ARGV
local now = tonumber(argv[1])

local messages = {}
for i = 2, #argv do
  messages[i - 1] = argv[i]
end
local heads = call('HMGET', '{lineshaft}:records', unpack(messages))

local done, ends, moment_of = {}, {}, {}
for i, message in ipairs(messages) do
  local head = heads[i]
  if head and byte(head) == 68 then
    local keep, n = sub(head, 50, 65), #done
    -- Most of a batch are kept as long, and writing a number is dear.
    moment_of[keep] = moment_of[keep] or string.format('%.0f', now + tonumber(keep))
    done[n + 1] = message
    ends[n * 2 + 1], ends[n * 2 + 2] = moment_of[keep], message
  end
end
if #done == 0 then
  return 0
end
-- Undone it stands behind all moments, and is moved to the front; marked again, to a later moment, it stays.
call('ZADD', '{lineshaft}:ends', 'LT', unpack(ends))
call('HDEL', '{lineshaft}:blobs', unpack(done))
return #done
