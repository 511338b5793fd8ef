-- Claims names under which nothing stands.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  per claim: number of its names, then per name: name, head, what is open or "", when it lapses (µs).
-- Answers per claim: 1 claimed; 0 something stands under one of its names, or was asked for by one of those: judge it, and
--       compare and set.
-- Keeps true: both names of a claim are set, or neither; who is in `claims` is in `claims:lapse` too, and in `claims:open`
--       exactly if its head says so.
local names = {}
local at = 1
while at <= #ARGV do
  for n = 1, tonumber(ARGV[at]) do
    names[#names + 1] = ARGV[at + n * 4 - 3]
  end
  at = at + 1 + tonumber(ARGV[at]) * 4
end
local stored = #names > 0 and redis.call('HMGET', '{lineshaft}:claims', unpack(names)) or {}
local stands = {}
for i, name in ipairs(names) do
  stands[name] = stands[name] or stored[i]
end

local answers, heads, open, lapse = {}, {}, {}, {}
at = 1
while at <= #ARGV do
  local last = at + tonumber(ARGV[at]) * 4
  local is_free = true
  for name = at + 1, last, 4 do
    is_free = is_free and not stands[ARGV[name]]
  end
  for name = at + 1, last, 4 do
    -- Whoever asks for it later in this batch comes later, whatever becomes of this claim.
    stands[ARGV[name]] = true
    if is_free then
      heads[#heads + 1], heads[#heads + 2] = ARGV[name], ARGV[name + 1]
      lapse[#lapse + 1], lapse[#lapse + 2] = ARGV[name + 3], ARGV[name]
      if ARGV[name + 2] ~= '' then
        open[#open + 1], open[#open + 2] = ARGV[name], ARGV[name + 2]
      end
    end
  end
  answers[#answers + 1] = is_free and 1 or 0
  at = last + 1
end
if #heads > 0 then
  redis.call('HSET', '{lineshaft}:claims', unpack(heads))
  redis.call('ZADD', '{lineshaft}:claims:lapse', unpack(lapse))
  if #open > 0 then
    redis.call('HSET', '{lineshaft}:claims:open', unpack(open))
  end
end
return answers
