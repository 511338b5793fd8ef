-- Has records of groups and final states kept longer, those that would soon be forgotten.
--
-- KEYS  the keys.
-- ARGV  1 now, 20 digits of unix ns  2 until when they are kept, likewise  3 those are kept longer that have less than this left, ms
--       4 how long they are kept, ms.
-- Answers how many are kept longer.
--
-- Keeps true: in a state of ours stands when it is forgotten. It is written in its place: a large state passes through no script.
local ORDER, TAIL = 44, 78
-- A state begins with two names, an id and a status. With all of them escaped they are shorter.
local HEAD_MAX = 8192
local LABEL = '","Order":"'
local kept = 0
for _, key in ipairs(KEYS) do
  local left = redis.call('PTTL', key)
  if left >= 0 and left < tonumber(ARGV[3]) then
    -- With a key of another type this is an error, and it is passed over.
    local head = redis.pcall('GETRANGE', key, 0, HEAD_MAX)
    local is_kept = false
    if type(head) == 'string' then
      local state = string.match(head, '"State":"(%u+)"')
      local tail = redis.call('GETRANGE', key, -TAIL, -1)
      local is_ours = string.sub(tail, 21, 31) == LABEL and string.sub(tail, 32 + ORDER) == '"}}'
      if state == 'SUCCESS' or state == 'FAILURE' then
        -- What has expired does not come back, though Redis still has it.
        is_kept = not is_ours or string.sub(tail, 1, 20) > ARGV[1]
        if is_ours and is_kept and string.sub(tail, 1, 20) < ARGV[2] then
          redis.call('SETRANGE', key, redis.call('STRLEN', key) - TAIL, ARGV[2])
        end
      elseif not state then
        is_kept = string.find(head, '"GroupUUID"', 1, true) ~= nil
      end
    end
    if is_kept then
      redis.call('PEXPIRE', key, ARGV[4])
      kept = kept + 1
    end
  end
end
return kept
