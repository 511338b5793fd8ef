-- Takes messages from where they were seen and writes down who holds them, in one step.
--
-- KEYS  1 held (hash of the taking replica)  2 holders (set of replicas)  3 again  4 inbox  5 the queue; not in a cluster:
--       6 Machinery's set of delayed bodies  7 later
-- ARGV  1 replica  2 serial of the first  3 how far behind its place a message is looked for; then three for each message:
--       part, depth, value
--       part: a  again   i  inbox   q  the queue, depth from its head   t  the queue, depth from its tail
--             d  delayed   l  later
-- Answer: for each message 1 taken, 0 not there; the serials of those taken are consecutive.
--
-- Invariant: as take.lua. A message is in `held` before it leaves its place, so that an error loses none.
redis.call('SADD', KEYS[2], ARGV[1])
local serial, behind = tonumber(ARGV[2]), tonumber(ARGV[3])
local lists, sets = { a = 3, i = 4, q = 5, t = 5 }, { d = 6, l = 7 }

-- What a value is held as, and what its serial has behind it.
local function held_as(part, value)
  if part == 'a' then return value, 'f' end
  if part ~= 'l' then return value, '' end
  local frame = string.sub(value, 44 + tonumber(string.sub(value, 41, 43)))
  -- No key: a body that nobody was given.
  if string.sub(frame, 1, 4) == '\0' .. '000' then return string.sub(frame, 10), '' end
  return frame, 'f'
end

local flags = {}
for at = 4, #ARGV, 3 do
  local part, value = ARGV[at], ARGV[at + 2]
  local list, set, rank = lists[part], sets[part], part == 't' and -1 or 1
  local found
  if list then
    found = redis.pcall('LPOS', KEYS[list], value, 'RANK', rank, 'MAXLEN', tonumber(ARGV[at + 1]) + behind)
  else
    found = redis.pcall('ZSCORE', KEYS[set], value)
  end
  -- A key of another type holds no message.
  if found and not (type(found) == 'table' and found.err) then
    local kept, suffix = held_as(part, value)
    redis.call('HSET', KEYS[1], serial .. suffix, kept)
    if list then redis.call('LREM', KEYS[list], rank, value) else redis.call('ZREM', KEYS[set], value) end
    serial = serial + 1
    flags[#flags + 1] = 1
  else
    flags[#flags + 1] = 0
  end
end
return flags
