-- Returns messages that a replica holds.
--
-- KEYS  1 held (hash of the replica)  2 the queue  3 again  4 later
-- ARGV  1 replica  2 channel of wake-ups; then four for each message, in order of serials, each serial once:
--       its field (serial, `f` behind it if it is a frame); how; score; prefix of a member of `later`
--       how: h  no attempt began: a body to the head of the queue, a frame to the head of `again`
--            a  an attempt may have begun: framed, to the tail of `again`
--            n  later, no attempt began: a body comes back to the queue   l  later, framed, to `again`
-- Answer: for each message 1 returned, 0 not held, 2 refused by the list it should go to (still held).
--
-- Invariant: a message leaves `held` only after it is in another place. Frame: \0, length of the key (3 digits), key,
-- redeliveries (5 digits), body. Later: the prefix, which names the target, then a frame.
local count = (#ARGV - 2) / 4
local fields = {}
for i = 1, count do fields[i] = ARGV[4 * i - 1] end
local values = redis.call('HMGET', KEYS[1], unpack(fields))
local flags, gone = {}, {}
local heads, frame_heads, tails, laters = {}, {}, {}, {}

-- A frame of `value`, counted once more as delivered.
local function framed(field, value)
  if string.sub(field, -1) ~= 'f' then
    local key = ARGV[1] .. '-' .. field
    return '\0' .. string.format('%03d', #key) .. key .. '00001' .. value
  end
  local size = tonumber(string.sub(value, 2, 4))
  local times = size and tonumber(string.sub(value, 5 + size, 9 + size))
  -- What only looks like a frame is passed on as it is.
  if not times then return value end
  times = math.min(times + 1, 99999)
  return string.sub(value, 1, 4 + size) .. string.format('%05d', times) .. string.sub(value, 10 + size)
end

for i = 1, count do
  local field, value = fields[i], values[i]
  local how = ARGV[4 * i]
  if not value then
    flags[i] = 0
  else
    flags[i] = 1
    local is_frame = string.sub(field, -1) == 'f'
    if how == 'h' then
      local to = is_frame and frame_heads or heads
      to[#to + 1] = {i, value}
    elseif how == 'a' then
      tails[#tails + 1] = {i, framed(field, value)}
    else
      local frame
      if how == 'l' then
        frame = framed(field, value)
      elseif is_frame then
        frame = value
      else
        -- No key, and one delivery: it is told apart from what its sender delayed.
        frame = '\0' .. '00000001' .. value
      end
      laters[#laters + 1] = {i, ARGV[4 * i + 2] .. frame, ARGV[4 * i + 1]}
    end
  end
end

local function put(items, command, key)
  if #items == 0 then return end
  local args = {}
  for n = 1, #items do
    local item = items[command == 'LPUSH' and #items + 1 - n or n]
    if command == 'ZADD' then args[#args + 1] = item[3] end
    args[#args + 1] = item[2]
  end
  local answer = redis.pcall(command, key, unpack(args))
  local refused = type(answer) == 'table' and answer.err
  for _, item in ipairs(items) do
    if refused then flags[item[1]] = 2 else gone[#gone + 1] = fields[item[1]] end
  end
  -- Nothing has moved yet: the reason is told, and says that nothing was written.
  if refused and #gone == 0 and not string.find(refused, 'WRONGTYPE', 1, true) then error(answer) end
end

put(heads, 'LPUSH', KEYS[2])
put(frame_heads, 'LPUSH', KEYS[3])
put(tails, 'RPUSH', KEYS[3])
put(laters, 'ZADD', KEYS[4])
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end
if #tails + #frame_heads > 0 then redis.call('PUBLISH', ARGV[2], KEYS[3]) end
return flags
