-- What a script begins with that forgets what is past its time.
--
-- An entry of an index names what is due: one name; or, for those that were written together, \1 and their names, \1 between them.

-- Forgets what `is_past` of the heads of what is due in `index`, from `heads` and `rest`: about as many as ARGV says, as what one
-- entry names is looked at together. Answers how many.
local function forget_due(index, heads, rest, is_past)
  local most = tonumber(ARGV[2])
  local due = redis.call('ZRANGEBYSCORE', index, '-inf', ARGV[1], 'LIMIT', 0, most)
  local gone, forgotten = {}, {}
  for _, entry in ipairs(due) do
    if #forgotten >= most then
      break
    end
    gone[#gone + 1] = entry
    local names = {}
    if string.byte(entry) == 1 then
      for name in string.gmatch(entry, '[^\1]+') do
        names[#names + 1] = name
      end
    else
      names[1] = entry
    end
    for i, head in ipairs(redis.call('HMGET', heads, unpack(names))) do
      if head and is_past(head) then
        forgotten[#forgotten + 1] = names[i]
      end
    end
  end
  if #gone > 0 then
    redis.call('ZREM', index, unpack(gone))
  end
  if #forgotten > 0 then
    redis.call('HDEL', heads, unpack(forgotten))
    redis.call('HDEL', rest, unpack(forgotten))
  end
  return #forgotten
end

