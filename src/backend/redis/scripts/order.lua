-- What a script that stores states begins with: how a state is compared with what is stored.
--
-- Keeps true: of ours, only a greater order replaces a smaller one. What another program wrote has no order: an end of it
-- stays unless a new sending begins, and everything else of it is replaced.

local ORDER, LABEL = 44, '","Order":"'

local function order_of(stored)
  local from = #stored - ORDER - 2
  if string.find(stored, LABEL, -ORDER - 14, true) == from - 11 and string.sub(stored, -3) == '"}}' then
    return string.sub(stored, from, -4)
  end
end

-- The time of creation with all nine digits of its fraction, if it is in UTC.
local function created_of(stored)
  local seconds, fraction = string.match(stored, '^.*"CreatedAt":"(%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d)%.?(%d*)Z"')
  return seconds and seconds .. '.' .. string.sub(fraction .. '000000000', 1, 9)
end

-- What another program wrote stays if it ended the sending that `since` began, or a later one.
local function is_foreign_end(stored, since)
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

-- How states are stored, by the argument that says so: mostly all of a batch have the same.
local how_of = {}
local function how(told)
  local is = how_of[told]
  if not is then
    local keep, name_at, created_at = string.match(told, '^(%d+),(%d+),(%d+)$')
    is = { keep = keep, name_at = tonumber(name_at), created_at = tonumber(created_at) }
    how_of[told] = is
  end
  return is
end

-- What is to be stored in the place of `stored`; nothing if it is behind. `at` is before the three arguments of a state: how
-- long it is kept in ms, where its name stands and where its time of creation (0: as told; else the place, counted from 1,
-- of a token that what is stored already takes the place of), with commas between them; the time of its generation ("" for
-- none; else 9 digits of fraction, in UTC); the state. `now`: 20 digits of unix ns.
local function body_after(stored, at, now)
  local body = ARGV[at + 3]
  if not stored then
    return body
  end
  local known = order_of(stored)
  if known then
    -- What has expired is as if it had never been, though Redis still has it.
    if string.sub(stored, -ORDER - 34, -ORDER - 15) <= now then
      return body
    end
    if order_of(body) <= known then
      return nil
    end
  elseif is_foreign_end(stored, ARGV[at + 2]) then
    return nil
  end
  local is = how(ARGV[at + 1])
  if is.name_at > 0 or is.created_at > 0 then
    return carried(stored, body, is.name_at, is.created_at)
  end
  return body
end

-- Enters the ends among states that were stored into the list of what ended, in one entry that was made beforehand
-- (`ended.rs`): its field and its value are the arguments behind `at`; the field "": nothing ended. One whose state was not stored
-- may be named, and is not listed. Whatever stands in the place of the list, states are stored.
local function list_ends(at)
  if ARGV[at + 1] ~= '' then
    redis.pcall('XADD', '{lineshaft}:ended', '*', ARGV[at + 1], ARGV[at + 2])
  end
end

