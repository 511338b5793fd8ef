-- Takes claims back whose messages were not published, and that nobody else was told of.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  per send: number of its names, message and \1, then the names.
-- Answers per send: 1 taken back, 0 one of its names is not its own any more.
-- Keeps true: as claim.
local answers = {}
local at = 1
while at <= #ARGV do
  local count, message = tonumber(ARGV[at]), ARGV[at + 1]
  local names, is_own = {}, true
  for n = 1, count do
    local name = ARGV[at + 1 + n]
    local head = redis.call('HGET', '{lineshaft}:claims', name)
    is_own = is_own and head and string.sub(head, 1, 2) == 'O-' and string.sub(head, 43, 42 + #message) == message
    names[n] = name
  end
  if is_own and count > 0 then
    redis.call('HDEL', '{lineshaft}:claims', unpack(names))
    redis.call('HDEL', '{lineshaft}:claims:open', unpack(names))
    redis.call('ZREM', '{lineshaft}:claims:lapse', unpack(names))
  end
  answers[#answers + 1] = is_own and 1 or 0
  at = at + 2 + count
end
return answers
