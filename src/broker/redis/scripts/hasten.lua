-- Makes parked bodies of a queue due: those that were returned for a while and not begun.
--
-- KEYS  1 later
-- ARGV  1 now, unix ns  2 until, unix ns: longer nothing is parked  3 the queue  4 members to pass over  5 most members
-- Answer: members seen, members made due.
--
-- Invariant: only scores change. What a sender delayed has no delivery in its frame, what an attempt left has a key.
local members = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], ARGV[2], 'LIMIT', ARGV[4], ARGV[5])
local prefix = string.format('%03d', #ARGV[3]) .. ARGV[3] .. '\0' .. '00000001'
local args = {}
for _, member in ipairs(members) do
  if string.sub(member, 41, 40 + #prefix) == prefix then
    args[#args + 1] = ARGV[1]
    args[#args + 1] = member
  end
end
if #args > 0 then redis.call('ZADD', KEYS[1], 'XX', unpack(args)) end
return {#members, #args / 2}
