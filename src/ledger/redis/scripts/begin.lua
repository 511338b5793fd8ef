-- Grants leases: of a message without live lease and decision, for a session that lives and did not attach again.
--
-- KEYS  {lineshaft}:records, for routing; the others are named below and of the same slot.
-- ARGV  now in µs; "1" if tasks and generations are told, else "0"; number of groups; per group: session, attach (20
--       digits; "0": any; "-": no session is needed), queue, holder \2 attempt if it is the first of its message; then per
--       grant: number of its group, message, blob, and if they are told: task, generation (20 digits).
-- Answers -1 if there are cancel marks and tasks were not told: nothing is done then. The first token, if every grant is
--       given a first lease, under this token and those after it. Else the first token, 1 if there are marks, and per
--       grant: 0 no such session; 1 granted, as the message's first lease, under the next token; 2 decided; 3 as 1, but
--       its task is cancelled; {1 or 3, head} granted, as a later lease; {4, head, blob} it has a live lease.
-- Keeps true: tokens only grow; a message has one live lease at most; each live lease is in `of` of its session, and
--       counted in `leased`; a record that is granted again is not in `ends`.
local call, byte, char, sub, find, format = redis.call, string.byte, string.char, string.sub, string.find, string.format
local argv = ARGV
local are_told, groups = argv[2] == '1', tonumber(argv[3])
local are_marks = call('EXISTS', '{lineshaft}:marks') == 1
if are_marks and not are_told then
  return -1
end
local stride = are_told and 5 or 3
local first = 4 + groups * 4
local grants = (#argv - first + 1) / stride

local messages = {}
for i = 1, grants do
  messages[i] = argv[first + (i - 1) * stride + 1]
end
local heads = call('HMGET', '{lineshaft}:records', unpack(messages))
local marks
if are_marks then
  local tasks = {}
  for i = 1, grants do
    tasks[i] = argv[first + (i - 1) * stride + 3]
  end
  marks = call('HMGET', '{lineshaft}:marks', unpack(tasks))
end

local sessions, group_of = {}, {}
for g = 1, groups do
  sessions[g] = argv[g * 4]
end
local attached = call('HMGET', '{lineshaft}:attach', unpack(sessions))
for g = 1, groups do
  local attach, stored, tail = argv[g * 4 + 1], attached[g], argv[g * 4 + 3]
  group_of[tostring(g)] = {
    session = argv[g * 4],
    lives = attach == '-' or (stored and (attach == '0' or attach == stored)),
    queue = argv[g * 4 + 2],
    tail = tail,
    fresh = tail .. '\0020\2\2',
  }
end

local base = math.max(tonumber(argv[1]), tonumber(call('GET', '{lineshaft}:token') or 0) + 1)
for i = 1, grants do
  local head = heads[i]
  -- Should the last token ever be lost, a message still gets a greater one than its own last.
  if head and byte(head) == 82 then
    base = math.max(base, tonumber(sub(head, 2, 17)) + 1)
  end
end

-- What a later lease of a message takes over from its record: releases and history.
local function earlier(head)
  local a = find(head, '\2', 18, true)
  local b = a and find(head, '\2', a + 1, true)
  local c = b and find(head, '\2', b + 1, true)
  local d = c and find(head, '\2', c + 1, true)
  if not d then
    return nil
  end
  return sub(head, b + 1, c - 1), sub(head, d + 1)
end

local answers, token = { base, are_marks and 1 or 0 }, base
local plain = 0
local granted, blob_of = {}, {}
local records, blobs, counts, live, anew = {}, {}, {}, {}, {}
local held, held_at = {}, {}
local high, digits = -1, nil
for i = 1, grants do
  local at = first + (i - 1) * stride
  local message = messages[i]
  local head = granted[message] or heads[i]
  local kind = head and byte(head)
  if kind == 68 then
    answers[i + 2] = 2
  elseif kind == 76 then
    answers[i + 2] = { 4, head, blob_of[message] or '' }
    if not blob_of[message] then
      held[#held + 1], held_at[#held + 1] = message, i + 2
    end
  else
    local group = group_of[argv[at]]
    local mark = marks and marks[i]
    local is_cancelled = mark and mark >= argv[at + 4]
    if not (group.lives or is_cancelled) then
      answers[i + 2] = 0
    else
      -- Written by hundreds: writing a number is the dearest part of a head.
      local low = token % 100
      if (token - low) / 100 ~= high then
        high = (token - low) / 100
        digits = format('%014.0f', high)
      end
      local text = digits .. char(48 + (low - low % 10) / 10, 48 + low % 10)
      if head then
        local releases, history = earlier(head)
        if not releases then
          return redis.error_reply('CORRUPT the record of a message cannot be read: ' .. message)
        end
        local _, lost = string.gsub(history, '\4', '')
        local a = find(group.tail, '\2', 1, true)
        local attempt = math.min(tonumber(sub(group.tail, a + 1)) + lost, 4294967295)
        local now = sub(group.tail, 1, a) .. format('%.0f', attempt)
        head = 'L' .. text .. now .. '\2' .. releases .. '\2\2' .. history
        anew[#anew + 1] = message
        answers[i + 2] = { is_cancelled and 3 or 1, head }
      else
        head = 'L' .. text .. group.fresh
        answers[i + 2] = is_cancelled and 3 or 1
        plain = is_cancelled and plain or plain + 1
      end
      local blob = argv[at + 2]
      granted[message], blob_of[message] = head, blob
      local n = #records
      records[n + 1], records[n + 2] = message, head
      blobs[n + 1], blobs[n + 2] = message, blob
      local of = live[group.session]
      if not of then
        of = {}
        live[group.session] = of
      end
      of[#of + 1] = message
      counts[group.queue] = (counts[group.queue] or 0) + 1
      token = token + 1
    end
  end
end

if #held > 0 then
  local found = call('HMGET', '{lineshaft}:blobs', unpack(held))
  for i, at in ipairs(held_at) do
    answers[at][3] = found[i]
  end
end
if token == base then
  return answers
end

call('SET', '{lineshaft}:token', format('%.0f', token - 1))
call('HSET', '{lineshaft}:records', unpack(records))
call('HSET', '{lineshaft}:blobs', unpack(blobs))
if #anew > 0 then
  call('ZREM', '{lineshaft}:ends', unpack(anew))
end
for session, of in pairs(live) do
  call('SADD', '{lineshaft}:holders', session)
  call('SADD', '{lineshaft}:of:' .. session, unpack(of))
end
for queue, count in pairs(counts) do
  call('HINCRBY', '{lineshaft}:leased', queue, count)
end
return plain == grants and base or answers
