-- What a script that stores states begins with: how a state is compared with what is stored.
--
-- Keeps true: of ours, only a greater order replaces a smaller one. What another program wrote has no order: an end of it
-- stays unless a new sending begins, and everything else of it is replaced.

local ORDER = 44

local function order_of(stored)
  if string.sub(stored, -3) == '"}}' and string.sub(stored, -ORDER - 14, -ORDER - 4) == '","Order":"' then
    return string.sub(stored, -ORDER - 3, -4)
  end
end

-- The time of creation with all nine digits of its fraction, if it is in UTC.
local function created_of(stored)
  local seconds, fraction = string.match(stored, '^.*"CreatedAt":"(%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d)%.?(%d*)Z"')
  return seconds and seconds .. '.' .. string.sub(fraction .. '000000000', 1, 9)
end

-- What has expired is as if it had never been, though Redis still has it.
local function has_expired(stored, now)
  return order_of(stored) and string.sub(stored, -ORDER - 34, -ORDER - 15) <= now
end

local function is_behind(stored, order, since)
  local known = order_of(stored)
  if known then
    return order <= known
  end
  local state = string.match(stored, '"State":"(%u+)"')
  if state ~= 'SUCCESS' and state ~= 'FAILURE' then
    return false
  end
  local created = created_of(stored)
  return since == '' or (created ~= nil and since <= created)
end

-- The token of a JSON string that begins at a place: to its end, past escaped quotes.
local function string_at(text, from)
  local at = from
  while true do
    at = string.find(text, '"', at + 1, true)
    if not at then
      return nil
    end
    local back = at - 1
    while string.byte(text, back) == 92 do
      back = back - 1
    end
    if (at - 1 - back) % 2 == 0 then
      return string.sub(text, from, at)
    end
  end
end

local NAME, CREATED = '""', '"0001-01-01T00:00:00Z"'

local function carried(stored, body, name_at, created_at)
  if created_at > 0 then
    local token = string.match(stored, '^.*"CreatedAt":("[^"]*")')
    if token then
      body = string.sub(body, 1, created_at - 1) .. token .. string.sub(body, created_at + #CREATED)
    end
  end
  if name_at > 0 and string.sub(stored, 1, name_at - 1) == string.sub(body, 1, name_at - 1) then
    local token = string_at(stored, name_at)
    if token then
      body = string.sub(body, 1, name_at - 1) .. token .. string.sub(body, name_at + #NAME)
    end
  end
  return body
end

-- What is to be stored in the place of `stored`; nothing if it is behind. `at` is before the six arguments of a state: its
-- order, the time of its generation ("" for none; else 9 digits of fraction, in UTC), how long it is kept in ms, the state,
-- where its name stands and where its time of creation (0: as told; else the place, counted from 1, of a token that what is
-- stored already takes the place of). `now`: 20 digits of unix ns.
local function body_after(stored, at, now)
  local body = ARGV[at + 4]
  if not stored or has_expired(stored, now) then
    return body
  end
  if is_behind(stored, ARGV[at + 1], ARGV[at + 2]) then
    return nil
  end
  local name_at, created_at = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  if name_at > 0 or created_at > 0 then
    return carried(stored, body, name_at, created_at)
  end
  return body
end

