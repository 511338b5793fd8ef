-- Where delayed messages go: the beginning of `move.lua` and of `claim.lua`.
--
-- ARGV  3 the queue of bodies that name none  4 `again` of that queue
--
-- What names no queue that can be read goes to `again` as it is, where our servers set it aside.
local default, poison = ARGV[3], ARGV[4]

local function target_of(body)
  local name = string.match(body, '^{"UUID":"[^"\\]*","Name":"[^"\\]*","RoutingKey":"([^"\\]*)"')
  if not name then
    local ok, task = pcall(cjson.decode, body)
    if not ok or type(task) ~= 'table' then return nil end
    for key, value in pairs(task) do
      if type(key) == 'string' and string.lower(key) == 'routingkey' and type(value) == 'string' then name = value end
    end
    if type(task.UUID) ~= 'string' and not name then return nil end
  end
  if not name or name == '' then return default end
  -- Keys that are no queues.
  if string.sub(name, 1, 12) == '{lineshaft}:' then return nil end
  return name
end

-- Each reads a member: which list it goes to, what of it, and whether our servers are to be woken for it.
local readers = {}

-- A body.
function readers.delayed(body)
  local target = target_of(body)
  if target then return target, body, false end
  return poison, body, true
end

-- A member of ours: due (20 digits), sequence (20), length of the target's name (3), the target, a frame.
function readers.later(member)
  local size = tonumber(string.sub(member, 41, 43))
  if not size then return poison, member, true end
  local target, frame = string.sub(member, 44, 43 + size), string.sub(member, 44 + size)
  -- No key: a body that goes where everybody takes.
  if string.sub(frame, 1, 4) == '\0' .. '000' then return target, string.sub(frame, 10), false end
  return target, frame, true
end
