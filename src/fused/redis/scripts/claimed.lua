-- Sends under names that are free, in one step.
--
-- KEYS  1 {lineshaft}:records, for routing, then the keys of the states.
-- ARGV  1 number of names, then per name: name, head, when it lapses (µs)
--       then number of lists and sets that messages go to, then per each: key, type
--       then commands: number of arguments, arguments.
-- Answer: 1 sent; 0 something stands under a name or in the place of a state, or a key is of another type: nothing is written.
--
-- Keeps true: what `claim.lua` and `published.lua` together do, behind each other.
local count = tonumber(ARGV[1])
local names, heads, lapse = {}, {}, {}
local at = 2
for n = 1, count do
  names[n] = ARGV[at]
  heads[2 * n - 1], heads[2 * n] = ARGV[at], ARGV[at + 1]
  lapse[2 * n - 1], lapse[2 * n] = ARGV[at + 2], ARGV[at]
  at = at + 3
end
local stored = redis.call('HMGET', '{lineshaft}:claims', unpack(names))
for n = 1, count do
  if stored[n] then return 0 end
end
if redis.call('EXISTS', unpack(KEYS, 2)) > 0 then return 0 end
for _ = 1, tonumber(ARGV[at]) do
  local kind = redis.call('TYPE', ARGV[at + 1]).ok
  if kind ~= 'none' and kind ~= ARGV[at + 2] then return 0 end
  at = at + 2
end
at = at + 1

redis.call('HSET', '{lineshaft}:claims', unpack(heads))
redis.call('ZADD', '{lineshaft}:claims:lapse', unpack(lapse))
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, last))
  at = last + 1
end
return 1
