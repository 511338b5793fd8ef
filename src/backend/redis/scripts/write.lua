-- Stores states, each only if it comes after what is stored.
--
-- KEYS[i]: the key of the i-th state. A key may come several times; its states are applied in order.
-- ARGV: now, 20 digits of unix ns; then six for each: its order, the time of its generation ("" for none; else 9 digits of fraction, in UTC), how long it is
-- kept in ms, the state, where its name stands and where its time of creation (0: as told; else the place, counted from 1, of
-- a token that what is stored already takes the place of).
-- Answers for each: 1 stored, 0 behind what is stored, -1 the key holds what is no state.
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

local found = redis.call('MGET', unpack(KEYS))
local at_now = ARGV[1]
local written = {}
local answers = {}
for i, key in ipairs(KEYS) do
  local at = (i - 1) * 6 + 1
  local order, since, keep, body = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local name_at, created_at = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local stored = written[key] or found[i]
  if stored and has_expired(stored, at_now) then
    stored = nil
  end
  if stored and is_behind(stored, order, since) then
    answers[i] = 0
  else
    if stored and (name_at > 0 or created_at > 0) then
      body = carried(stored, body, name_at, created_at)
    end
    -- With GET a key of another type is an error, and stays.
    local answer = redis.pcall('SET', key, body, 'PX', keep, 'GET')
    if type(answer) == 'table' and answer.err then
      answers[i] = -1
    else
      answers[i] = 1
      written[key] = body
    end
  end
end
return answers
