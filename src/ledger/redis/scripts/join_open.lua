-- Opens joins.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  per join: group, head, how many have to end, stage (`s` or `o`), 1 if its members are known or 0, how long it is remembered
--       (µs), when to look at it (µs), the name under which its members were written before or "", number of members; members.
-- Answers per join: 0 opened; 1 its members are not there any more; head, stage, ended, failed of the one that is there.
-- Keeps true: a join is there whole or not at all, and is in `joins` until it is closed.
local answers = {}
local at = 1
while at <= #ARGV do
  local group, new, members = ARGV[at], ARGV[at + 7], tonumber(ARGV[at + 8])
  local key, members_key, ends_key =
    '{lineshaft}:join:' .. group, '{lineshaft}:join-members:' .. group, '{lineshaft}:join-ends:' .. group
  local new_members, new_ends = '{lineshaft}:join-new:members:' .. new, '{lineshaft}:join-new:ends:' .. new
  local known = redis.call('HMGET', key, 'head', 'stage', 'ended', 'failed')
  if known[1] then
    answers[#answers + 1] = known
    if new ~= '' then
      redis.call('UNLINK', new_members, new_ends)
    end
  elseif
    new ~= ''
    and (redis.call('LLEN', new_members) ~= tonumber(ARGV[at + 2]) or redis.call('HLEN', new_ends) ~= tonumber(ARGV[at + 2]))
  then
    answers[#answers + 1] = 1
  else
    -- First what may fail, as the key may be another's; the keys of the join are made anew.
    redis.call('ZADD', '{lineshaft}:joins', ARGV[at + 6], group)
    redis.call('UNLINK', key, members_key, ends_key)
    if new ~= '' then
      redis.call('PERSIST', new_members)
      redis.call('PERSIST', new_ends)
      redis.call('RENAME', new_members, members_key)
      redis.call('RENAME', new_ends, ends_key)
    elseif members > 0 then
      local ends = {}
      for i = 1, members do
        ends[i * 2 - 1], ends[i * 2] = ARGV[at + 8 + i], ''
      end
      redis.call('RPUSH', members_key, unpack(ARGV, at + 9, at + 8 + members))
      redis.call('HSET', ends_key, unpack(ends))
    end
    redis.call(
      'HSET', key, 'head', ARGV[at + 1], 'count', ARGV[at + 2], 'stage', ARGV[at + 3], 'known', ARGV[at + 4],
      'keep', ARGV[at + 5], 'ended', 0, 'failed', 0
    )
    answers[#answers + 1] = 0
  end
  at = at + 9 + members
end
return answers
