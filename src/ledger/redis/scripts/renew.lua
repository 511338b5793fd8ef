-- Raises the renewal numbers of sessions that exist.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  the sessions.
-- Answers per session: 1 raised, 0 there is none.
local numbers = redis.call('HMGET', '{lineshaft}:renewals', unpack(ARGV))
local answers, raised, again = {}, {}, {}
for i, session in ipairs(ARGV) do
  local number = again[session] or numbers[i]
  if number then
    number = string.format('%.0f', tonumber(number) + 1)
    again[session] = number
    raised[#raised + 1], raised[#raised + 2] = session, number
  end
  answers[i] = number and 1 or 0
end
if #raised > 0 then
  redis.call('HSET', '{lineshaft}:renewals', unpack(raised))
end
return answers
