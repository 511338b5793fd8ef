-- Takes messages from a queue and writes down who holds them, in one step.
--
-- KEYS  1 again  2 inbox  3 the queue  4 held (hash of the taking replica)  5 holders (set of replicas)
-- ARGV  1 replica  2 most messages  3 most bytes of bodies  4 serial of the first  5 bytes of a usual body
-- Answer: how many came from `again` (they are frames), then all values in order; their serials are consecutive.
--
-- Invariant: a message is in a list or in a hash `held`, never in neither. SADD comes first: where Redis refuses writes
-- for lack of memory or disk it refuses that one, before anything has left its list.
-- The inbox is emptied before the queue: what a wake-up moved there is older than all that is in the queue.
redis.call('SADD', KEYS[5], ARGV[1])
local most, limit = tonumber(ARGV[2]), tonumber(ARGV[3])
local serial, usual = tonumber(ARGV[4]), tonumber(ARGV[5])
local taken, fields, bytes, frames = {0}, {}, 0, 0
local failure = false

local function put_back(list, values, from)
  local rest = {}
  for i = #values, from, -1 do rest[#rest + 1] = values[i] end
  redis.call('LPUSH', list, unpack(rest))
end

local function take_from(list, suffix)
  while #taken - 1 < most and bytes < limit do
    local count = math.min(most - #taken + 1, math.max(1, math.floor((limit - bytes) / usual)))
    local values = redis.pcall('LPOP', list, count)
    if not values then return end
    if values.err then failure = values return end
    for i = 1, #values do
      if bytes >= limit then
        put_back(list, values, i)
        return
      end
      local value = values[i]
      fields[#fields + 1] = serial .. suffix
      fields[#fields + 1] = value
      taken[#taken + 1] = value
      serial = serial + 1
      bytes = bytes + #value
    end
    if #values < count then return end
  end
end

take_from(KEYS[1], 'f')
frames = #taken - 1
take_from(KEYS[2], '')
local before_queue = #taken - 1
take_from(KEYS[3], '')
if #taken == 1 then return failure or taken end

local held = redis.pcall('HSET', KEYS[4], unpack(fields))
if type(held) == 'table' and held.err then
  -- The hash is of another kind: everything goes back to the heads it came from.
  local from = { {KEYS[3], before_queue + 1, #taken - 1}, {KEYS[2], frames + 1, before_queue}, {KEYS[1], 1, frames} }
  for _, part in ipairs(from) do
    local values = {}
    for i = part[2], part[3] do values[#values + 1] = taken[i + 1] end
    if #values > 0 then put_back(part[1], values, 1) end
  end
  return held
end
taken[1] = frames
return taken
