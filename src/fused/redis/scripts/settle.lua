-- Between `judge.lua` and `record.lua`, behind `order.lua`: what follows from decisions is done with them. Each is told with
-- the µs at which it is forgotten.
--
-- KEYS  behind the first, the key of each state.
-- ARGV  behind what `judge.lua` tells: now, 20 digits of unix ns; number of states; per state: number of its decision, six as
--       `order.lua` says; per message that is published: number of its decision (0: whatever they come to), command, key,
--       score or "", member.
-- Answers -1 too: a key holds what it should not. Nothing is written then.
-- Keeps true: a decision is in `ends` with the moment at which it is forgotten; its message has no body in `blobs`.
if #records == 0 then
  return answers
end
local at = decisions * 3 + 4 + dead * 5 + lifetimes * 3
local states = tonumber(argv[at + 1])
local keys, places = {}, {}
for i = 1, states do
  local place = at + 2 + (i - 1) * 7
  if answers[tonumber(argv[place])] == 1 then
    keys[#keys + 1], places[#places + 1] = KEYS[i + 1], place
  end
end

-- All is looked at before anything is written.
local bodies, keep = {}, {}
if #keys > 0 then
  local found = call('MGET', unpack(keys))
  for n, key in ipairs(keys) do
    local stored = bodies[key] or found[n]
    if not stored and call('EXISTS', key) == 1 then
      return -1
    end
    local body = body_after(stored, places[n], argv[at])
    if body then
      bodies[key], keep[key] = body, argv[places[n] + 3]
    end
  end
end
local kinds = { RPUSH = 'list', ZADD = 'zset', SADD = 'set' }
local first = at + 2 + states * 7
local seen = {}
for p = first, #argv, 5 do
  local key = argv[p + 2]
  if not seen[key] then
    local kind = call('TYPE', key).ok
    if bodies[key] or (kind ~= 'none' and kind ~= kinds[argv[p + 1]]) then
      return -1
    end
    seen[key] = true
  end
end

for key, body in pairs(bodies) do
  call('SET', key, body, 'PX', keep[key])
end
for p = first, #argv, 5 do
  local decision = tonumber(argv[p])
  if decision == 0 or answers[decision] == 1 then
    if argv[p + 3] == '' then
      call(argv[p + 1], argv[p + 2], argv[p + 4])
    else
      call(argv[p + 1], argv[p + 2], argv[p + 3], argv[p + 4])
    end
  end
end
local done, ends = {}, {}
for n, i in ipairs(recorded) do
  done[n] = messages[i]
  ends[n * 2 - 1], ends[n * 2] = argv[i * 3 + 3], messages[i]
end
call('HDEL', '{lineshaft}:blobs', unpack(done))
call('ZADD', '{lineshaft}:ends', unpack(ends))
