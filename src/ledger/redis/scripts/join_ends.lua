-- What a script begins with that adds members to joins: first all are told with `member_ended`, then `odd_join` looks at their keys,
-- then `add_members` writes.
--
-- Keeps true: a member counts once, the first time; a join that is full is due at once.
local joined, joined_in_order = {}, {}

-- A member that ended, and how: `S` or `F` and its outcome.
local function member_ended(group, task, how_ended)
  local of = joined[group]
  if not of then
    of = { tasks = {}, ends = {} }
    joined[group] = of
    joined_in_order[#joined_in_order + 1] = group
  end
  of.tasks[#of.tasks + 1], of.ends[#of.ends + 1] = task, how_ended
end

-- The error that says which key of what was told holds what it should not.
local function odd_join()
  local kinds = { ['{lineshaft}:joins'] = 'zset' }
  for _, group in ipairs(joined_in_order) do
    kinds['{lineshaft}:join:' .. group] = 'hash'
    kinds['{lineshaft}:join-members:' .. group] = 'list'
    kinds['{lineshaft}:join-ends:' .. group] = 'hash'
  end
  for key, kind in pairs(kinds) do
    local is = redis.call('TYPE', key).ok
    if is ~= 'none' and is ~= kind then
      return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. is .. ', it must be a ' .. kind)
    end
  end
end

-- Some of the members of a join: how many count, and how many of those failed. Lua cannot pass on many thousand values.
local function add_some(group, of, from, to, is_known)
  local ends_key = '{lineshaft}:join-ends:' .. group
  local found = redis.call('HMGET', ends_key, unpack(of.tasks, from, to))
  local fields, new, seen, failed = {}, {}, {}, 0
  for i, stored in ipairs(found) do
    local task, how_ended = of.tasks[from + i - 1], of.ends[from + i - 1]
    local is_open = stored == '' or (not stored and not is_known)
    if is_open and not seen[task] then
      seen[task] = true
      new[#new + 1] = task
      fields[#fields + 1], fields[#fields + 2] = task, how_ended
      failed = failed + (string.byte(how_ended) == 70 and 1 or 0)
    end
  end
  if #new > 0 then
    redis.call('HSET', ends_key, unpack(fields))
    if not is_known then
      redis.call('RPUSH', '{lineshaft}:join-members:' .. group, unpack(new))
    end
  end
  return #new, failed
end

local function add_members()
  for _, group in ipairs(joined_in_order) do
    local key, of = '{lineshaft}:join:' .. group, joined[group]
    local is = redis.call('HMGET', key, 'stage', 'known', 'count')
    if is[1] == 's' or is[1] == 'o' then
      local new, failed = 0, 0
      for from = 1, #of.tasks, 1000 do
        local n, f = add_some(group, of, from, math.min(from + 999, #of.tasks), is[2] == '1')
        new, failed = new + n, failed + f
      end
      if failed > 0 then
        redis.call('HINCRBY', key, 'failed', failed)
      end
      if new > 0 and redis.call('HINCRBY', key, 'ended', new) >= tonumber(is[3]) then
        redis.call('ZADD', '{lineshaft}:joins', 0, group)
      end
    end
  end
end
