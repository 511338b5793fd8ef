-- Stores states, each only if it comes after what is stored. Behind `order.lua`.
--
-- KEYS[i]: the key of the i-th state. A key may come several times; its states are applied in order.
-- ARGV: now, 20 digits of unix ns; two that list what ended; then three for each: as `order.lua` says.
-- Answers for each: 1 stored, 0 behind what is stored, -1 the key holds what is no state.
local found = redis.call('MGET', unpack(KEYS))
local written = {}
local answers = {}
for i, key in ipairs(KEYS) do
  local at = (i - 1) * 3 + 3
  local body = body_after(written[key] or found[i], at, ARGV[1])
  if not body then
    answers[i] = 0
  else
    -- With GET a key of another type is an error, and stays.
    local answer = redis.pcall('SET', key, body, 'PX', how(ARGV[at + 1]).keep, 'GET')
    if type(answer) == 'table' and answer.err then
      answers[i] = -1
    else
      answers[i] = 1
      written[key] = body
    end
  end
end
if next(written) then
  list_ends(1)
end
return answers
