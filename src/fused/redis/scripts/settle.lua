-- Between `judge.lua` and `record.lua`, behind `order.lua` and `join_ends.lua`: what follows from decisions is done with them.
--
-- KEYS  behind the first, the key of each state.
-- ARGV  behind what `judge.lua` tells: now, 20 digits of unix ns; two that list what ended; the number of the decision of each
--       state, with commas between them ("": as many states as decisions, in their order); number of states; per state three as
--       `order.lua` says; per message that is published: number of its decision (0: whatever they come to), command, key,
--       score or "", member; per member of a join that ends: number of its decision, "", group, task, how it ended.
-- Answers -1 too: a key of a state or a queue holds what it should not. An error that names the key, if one of the ledger's does.
-- Nothing is written then.
-- Keeps true: a decision is in `ends` with the moment at which it is forgotten; its message has no body in `blobs`.
if #records == 0 then
  return answers
end
local at = decisions * stride + 4 + dead * 5 + lifetimes * 3
local states = tonumber(argv[at + 4])
local keys, places = {}, {}
local i = 0
local function state_of(decision)
  i = i + 1
  if answers[decision] == 1 then
    keys[#keys + 1], places[#places + 1] = KEYS[i + 1], at + 4 + (i - 1) * 3
  end
end
if argv[at + 3] == '' then
  for decision = 1, states do
    state_of(decision)
  end
else
  for decision in string.gmatch(argv[at + 3], '%d+') do
    state_of(tonumber(decision))
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
      bodies[key], keep[key] = body, how(argv[places[n] + 1]).keep
    end
  end
end
local kinds = { RPUSH = 'list', ZADD = 'zset', SADD = 'set' }
local first = at + 5 + states * 3
local seen = {}
for p = first, #argv, 5 do
  local key = argv[p + 2]
  if argv[p + 1] == '' then
    if answers[tonumber(argv[p])] == 1 then
      member_ended(key, argv[p + 3], argv[p + 4])
    end
  elseif not seen[key] then
    local kind = call('TYPE', key).ok
    if bodies[key] or (kind ~= 'none' and kind ~= kinds[argv[p + 1]]) then
      return -1
    end
    seen[key] = true
  end
end
local ours = { [':ends'] = 'zset', [':blobs'] = 'hash', [':leased'] = 'hash' }
for _, of in pairs(holders) do
  ours[':of:' .. of.session] = 'set'
end
if lifetimes > 0 then
  ours[':lifetimes'] = 'zset'
end
if dead > 0 then
  ours[':dead'], ours[':dead:requeue'], ours[':dead:order'], ours[':dead:at'] = 'hash', 'hash', 'zset', 'zset'
end
for key, kind in pairs(ours) do
  local is = call('TYPE', '{lineshaft}' .. key).ok
  if is ~= 'none' and is ~= kind then
    return redis.error_reply('WRONGTYPE {lineshaft}' .. key .. ' is a ' .. is .. ', it must be a ' .. kind)
  end
end
local odd = next(joined) and odd_join()
if odd then
  return odd
end

for key, body in pairs(bodies) do
  call('SET', key, body, 'PX', keep[key])
end
if next(bodies) then
  list_ends(at)
end
for p = first, #argv, 5 do
  local decision = tonumber(argv[p])
  if argv[p + 1] ~= '' and (decision == 0 or answers[decision] == 1) then
    if argv[p + 3] == '' then
      call(argv[p + 1], argv[p + 2], argv[p + 4])
    else
      call(argv[p + 1], argv[p + 2], argv[p + 3], argv[p + 4])
    end
  end
end
add_members()
local done, together = {}, {}
for n, i in ipairs(recorded) do
  local timing = sub(argv[i * stride + 3], 50, 85)
  done[n] = messages[i]
  local of = together[timing]
  if not of then
    of = { '' }
    together[timing] = of
  end
  of[#of + 1] = messages[i]
end
call('HDEL', '{lineshaft}:blobs', unpack(done))
-- One entry for all that are forgotten at one moment: an index is the dearest thing to write. How long they are kept is in µs,
-- and so are the first 17 digits of when they were decided; a part of one more counts as one.
for timing, of in pairs(together) do
  local moment = tonumber(sub(timing, 1, 16)) + tonumber(sub(timing, 17, 33)) + (sub(timing, 34) == '000' and 0 or 1)
  call('ZADD', '{lineshaft}:ends', string.format('%.0f', math.min(moment, 9e15)), table.concat(of, '\1'))
end
