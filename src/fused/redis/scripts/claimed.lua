-- Sends under names that are free, in one step.
--
-- KEYS  1 {lineshaft}:records, for routing, then the keys of the states.
-- ARGV  1 number of names, then per name: name, head
--       then number of keys that the commands write to, then per each: key, type
--       then per state: how long it is kept in ms, state
--       then commands: number of arguments, arguments.
-- Answer: 1 sent; 0 something stands under a name or in the place of a state, or a queue's key is of another type: nothing is
--         written. An error that names the key, if one that all share is of another type: nothing is written either.
--
-- Keeps true: what `claim.lua` and `published.lua` together do, behind each other.
local argv, sub = ARGV, string.sub

-- What a call that failed is told as.
local function named(answer, key)
  if string.find(answer.err, 'WRONGTYPE', 1, true) then
    return redis.error_reply('WRONGTYPE ' .. key .. ' is a ' .. redis.call('TYPE', key).ok .. ', which is not ours')
  end
  return answer
end

local count = tonumber(argv[1])
local names, heads, lapse = {}, {}, {}
for n = 1, count do
  local name, head = argv[2 * n], argv[2 * n + 1]
  names[n], heads[2 * n - 1], heads[2 * n] = name, name, head
  local lapses_at = sub(head, 3, 22)
  local of = lapse[lapses_at] or { '' }
  lapse[lapses_at] = of
  of[#of + 1] = name
end
local stored = redis.pcall('HMGET', '{lineshaft}:claims', unpack(names))
if stored.err then return named(stored, '{lineshaft}:claims') end
for n = 1, count do
  if stored[n] then return 0 end
end
if redis.call('EXISTS', unpack(KEYS, 2)) > 0 then return 0 end
local at = 2 * count + 2
for _ = 1, tonumber(argv[at]) do
  local kind = redis.call('TYPE', argv[at + 1]).ok
  if kind ~= 'none' and kind ~= argv[at + 2] then
    if sub(argv[at + 1], 1, 12) ~= '{lineshaft}:' then return 0 end
    return redis.error_reply('WRONGTYPE ' .. argv[at + 1] .. ' is a ' .. kind .. ', it must be a ' .. argv[at + 2])
  end
  at = at + 2
end
at = at + 1

-- The first write, and the last that can fail: the types of all other keys are known by now. One entry for all that lapse at
-- one moment, as an index is the dearest thing to write. The first 17 digits are µs; a part of one more counts as one.
for lapses_at, of in pairs(lapse) do
  local micros = tonumber(sub(lapses_at, 1, 17)) + (sub(lapses_at, 18) == '000' and 0 or 1)
  local moment = string.format('%.0f', math.min(micros, 9e15))
  local lapsing = redis.pcall('ZADD', '{lineshaft}:claims:lapse', moment, table.concat(of, '\1'))
  if type(lapsing) == 'table' and lapsing.err then return named(lapsing, '{lineshaft}:claims:lapse') end
end
redis.call('HSET', '{lineshaft}:claims', unpack(heads))
for i = 2, #KEYS do
  redis.call('SET', KEYS[i], argv[at + 1], 'PX', argv[at])
  at = at + 2
end
while at <= #argv do
  local last = at + tonumber(argv[at])
  redis.call(unpack(argv, at + 1, last))
  at = last + 1
end
return 1
