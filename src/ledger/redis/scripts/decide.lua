-- Between `judge.lua` and `record.lua`: decisions whose effects are to be done. Each is told with its effects.
--
-- Keeps true: a decision is in `ends`, 1e16 behind its time until its effects are done.
if #records == 0 then
  return answers
end
local blobs, ends = {}, {}
for n, i in ipairs(recorded) do
  local message = messages[i]
  blobs[n * 2 - 1], blobs[n * 2] = message, argv[i * stride + 3]
  -- The first 17 digits of its time are µs; put as text, as writing a number costs more than all the rest.
  ends[n * 2 - 1], ends[n * 2] = '1' .. sub(argv[i * stride + 2], 67, 82), message
end
call('HSET', '{lineshaft}:blobs', unpack(blobs))
call('ZADD', '{lineshaft}:ends', unpack(ends))
