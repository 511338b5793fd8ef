-- Claims messages that are due, the earliest first, for a mover that then adds them to their queues: in a cluster, where
-- these are on other servers.
--
-- KEYS  1 a set of delayed messages  2 what is claimed of it
-- ARGV  1 now, unix ns  2 most messages  3, 4 as `targets.lua` has them  5 which set it is: delayed, later
--       6 most bytes, unless one message has more  7 how long a claim holds, ms
-- Answer: 1 if more may be due, else 0; score of the next (empty: none); then four for each: the member, its list, the place
--         (from 1) at which what goes there begins, 1 if our servers are to be woken.
--
-- Behind `targets.lua`. Claims are stamped with the time of this server, as no two movers have the same clock.
-- Invariant: a message is in one of the two sets until its mover says that it is in its list. A mover that dies between
-- leaves a claim that the next one takes over, and then the list may have the message twice.
local now, most, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[6])
-- Read at once, so that a few large messages are not read in vain.
local STEP = 16

if redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then return {0, ''} end
local time = redis.call('TIME')
local stamp = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local due, bytes = {}, 0
local function read(source, until_score)
  local is_all, from = false, 0
  while #due < most and bytes < limit and not is_all do
    local some = redis.call('ZRANGEBYSCORE', source, '-inf', until_score, 'LIMIT', from, STEP)
    for i = 1, #some do
      due[#due + 1] = some[i]
      bytes = bytes + #some[i]
    end
    from = from + #some
    is_all = #some < STEP
  end
  return is_all
end

local is_all = read(KEYS[2], '(' .. string.format('%.0f', stamp - tonumber(ARGV[7])))
local left = #due
is_all = read(KEYS[1], now) and is_all
local claims, gone = {}, {}
for i = 1, #due do
  claims[#claims + 1] = stamp
  claims[#claims + 1] = due[i]
  if i > left then gone[#gone + 1] = due[i] end
end
if #claims > 0 then redis.call('ZADD', KEYS[2], unpack(claims)) end
if #gone > 0 then redis.call('ZREM', KEYS[1], unpack(gone)) end

local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local answer = {is_all and 0 or 1, first[2] or ''}
for i = 1, #due do
  local target, value, wakes = readers[ARGV[5]](due[i])
  answer[#answer + 1] = due[i]
  answer[#answer + 1] = target
  answer[#answer + 1] = #due[i] - #value + 1
  answer[#answer + 1] = wakes and 1 or 0
end
return answer
