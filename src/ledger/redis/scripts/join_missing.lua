-- Members of a join that have not ended.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  group; position of the first that is looked at, from 0; most that are answered; most that are looked at.
-- Answers the position from where to go on, or -1; the members.
local group, at, most, left = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local is = redis.call('HMGET', '{lineshaft}:join:' .. group, 'stage', 'known')
if not is[1] or is[1] == 'c' or is[2] ~= '1' then
  return { -1, {} }
end
local members_key, ends_key = '{lineshaft}:join-members:' .. group, '{lineshaft}:join-ends:' .. group
local count = redis.call('LLEN', members_key)
local missing = {}
while at < count and #missing < most and left > 0 do
  local members = redis.call('LRANGE', members_key, at, at + math.min(left, 500) - 1)
  for i, stored in ipairs(redis.call('HMGET', ends_key, unpack(members))) do
    if #missing == most then
      break
    end
    at, left = at + 1, left - 1
    if stored == '' then
      missing[#missing + 1] = members[i]
    end
  end
end
return { at < count and at or -1, missing }
