-- Lets what a dead replica held of a queue wait again, a piece at a time.
--
-- KEYS  1 held (hash of that replica)  2 again  3 holders
-- ARGV  1 replica  2 most messages  3 most bytes of bodies  4 channel of wake-ups
-- Answer: moved, still held.
--
-- Invariant: a message leaves `held` only after it is in `again`. Oldest first, at the tail: what waits there was taken
-- earlier. An attempt may have begun under each, so all are framed and counted as delivered once more.
local fields = redis.call('HKEYS', KEYS[1])
if #fields == 0 then
  redis.call('SREM', KEYS[3], ARGV[1])
  return {0, 0}
end
local function serial(field) return tonumber((string.gsub(field, 'f', ''))) or 0 end
table.sort(fields, function(a, b) return serial(a) < serial(b) end)
local most, limit, bytes = tonumber(ARGV[2]), tonumber(ARGV[3]), 0
local frames, gone = {}, {}
for i = 1, math.min(#fields, most) do
  local field = fields[i]
  local value = redis.call('HGET', KEYS[1], field)
  local frame = value
  if string.sub(field, -1) ~= 'f' then
    local key = ARGV[1] .. '-' .. field
    frame = '\0' .. string.format('%03d', #key) .. key .. '00001' .. value
  else
    local size = tonumber(string.sub(value, 2, 4))
    local times = size and tonumber(string.sub(value, 5 + size, 9 + size))
    if times then
      times = math.min(times + 1, 99999)
      frame = string.sub(value, 1, 4 + size) .. string.format('%05d', times) .. string.sub(value, 10 + size)
    end
  end
  frames[i], gone[i] = frame, field
  bytes = bytes + #frame
  if bytes >= limit then break end
end
redis.call('RPUSH', KEYS[2], unpack(frames))
redis.call('HDEL', KEYS[1], unpack(gone))
if #gone == #fields then redis.call('SREM', KEYS[3], ARGV[1]) end
redis.call('PUBLISH', ARGV[4], KEYS[2])
return {#gone, #fields - #gone}
