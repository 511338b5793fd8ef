-- Moves messages that are due to their queues, the earliest first.
--
-- KEYS  1 Machinery's delayed tasks (members are bodies)  2 later (members are of ours)
-- ARGV  1 now, unix ns  2 most messages of each  3 the queue of bodies that name none  4 `again` of that queue
--       5 channel of wake-ups  6 most bytes of each, unless one message has more
-- Answer: 1 if more may be due, else 0, for 1 and for 2; score of the next of 1, of the next of 2 (empty: none).
--
-- Behind `targets.lua`. Lists whose names are in the messages are written: not for a cluster, which has `claim.lua`.
-- Invariant: a message is removed only after it is in a list; to be removed is the claim, so that others may move too.
-- What its list refuses waits a minute longer, so that it does not keep others from moving.
local now, most = ARGV[1], tonumber(ARGV[2])
local NOTHING = {0, 0, '', ''}
-- Read at once, so that a few large messages are not read in vain.
local STEP = 16
local PAUSE = 60000000000

if redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then return NOTHING end

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

local more, next_one = move(KEYS[1], readers.delayed)
local more_later, next_later = move(KEYS[2], readers.later)
return {more, more_later, next_one, next_later}
