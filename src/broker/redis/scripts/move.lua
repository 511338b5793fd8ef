-- Moves messages that are due to their queues, the earliest first.
--
-- KEYS  1 Machinery's delayed tasks (members are bodies)  2 later (members are of ours)
-- ARGV  1 now, unix ns  2 most messages of each  3 the queue of bodies that name none  4 `again` of that queue
--       5 channel of wake-ups  6 most bytes of each, unless one message has more
-- Answer: 1 if more may be due, else 0, for 1 and for 2; score of the next of 1, of the next of 2 (empty: none).
--
-- Lists whose names are in the messages are written: not for a cluster.
-- Invariant: a message is removed only after it is in a list; to be removed is the claim, so that others may move too.
-- What names no queue that can be read goes to `again` as it is, where our servers set it aside.
-- What its list refuses waits a minute longer, so that it does not keep others from moving.
local now, most, default, poison = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local NOTHING = {0, 0, '', ''}
-- Read at once, so that a few large messages are not read in vain.
local STEP = 16
local PAUSE = 60000000000

if redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then return NOTHING end

local function target_of(body)
  local name = string.match(body, '^{"UUID":"[^"\\]*","Name":"[^"\\]*","RoutingKey":"([^"\\]*)"')
  if not name then
    local ok, task = pcall(cjson.decode, body)
    if not ok or type(task) ~= 'table' then return nil end
    for key, value in pairs(task) do
      if type(key) == 'string' and string.lower(key) == 'routingkey' and type(value) == 'string' then name = value end
    end
    if type(task.UUID) ~= 'string' and not name then return nil end
  end
  if not name or name == '' then return default end
  -- Keys that are no queues.
  if string.sub(name, 1, 12) == '{lineshaft}:' then return nil end
  return name
end

local function move(source, read)
  local due, bytes, is_all = {}, 0, false
  while #due < most and bytes < tonumber(ARGV[6]) and not is_all do
    local some = redis.call('ZRANGEBYSCORE', source, '-inf', now, 'LIMIT', #due, STEP)
    for i = 1, #some do
      due[#due + 1] = some[i]
      bytes = bytes + #some[i]
    end
    is_all = #some < STEP
  end
  local order, lists = {}, {}
  for i = 1, #due do
    local target, value, wakes = read(due[i])
    local list = lists[target]
    if not list then
      list = {values = {}, members = {}, wakes = false}
      lists[target] = list
      order[#order + 1] = target
    end
    list.values[#list.values + 1] = value
    list.members[#list.members + 1] = due[i]
    list.wakes = list.wakes or wakes
  end
  for _, target in ipairs(order) do
    local list = lists[target]
    local answer = redis.pcall('RPUSH', target, unpack(list.values))
    if type(answer) == 'table' and answer.err then
      if not string.find(answer.err, 'WRONGTYPE', 1, true) then error(answer) end
      for _, member in ipairs(list.members) do redis.call('ZADD', source, tonumber(now) + PAUSE, member) end
    else
      redis.call('ZREM', source, unpack(list.members))
      if list.wakes then redis.call('PUBLISH', ARGV[5], target) end
    end
  end
  local first = redis.call('ZRANGE', source, 0, 0, 'WITHSCORES')
  return is_all and 0 or 1, first[2] or ''
end

local more, next_one = move(KEYS[1], function(body)
  local target = target_of(body)
  if target then return target, body, false end
  return poison, body, true
end)
-- A member: due (20 digits), sequence (20), length of the target's name (3), the target, a frame.
local more_later, next_later = move(KEYS[2], function(member)
  local size = tonumber(string.sub(member, 41, 43))
  if not size then return poison, member, true end
  local target, frame = string.sub(member, 44, 43 + size), string.sub(member, 44 + size)
  -- No key and no delivery: a body that goes where everybody takes.
  if string.sub(frame, 1, 9) == '\0' .. '00000000' then return target, string.sub(frame, 10), false end
  return target, frame, true
end)
return {more, more_later, next_one, next_later}
