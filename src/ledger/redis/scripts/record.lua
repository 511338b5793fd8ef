-- The end of a script that records decisions: their records, and what goes with them.
--
-- Answers 1 if all are recorded, else as `judge.lua`.
-- Keeps true: what `of` and `leased` say of live leases.
call('HSET', '{lineshaft}:records', unpack(records))
for _, of in pairs(holders) do
  call('SREM', '{lineshaft}:of:' .. of.session, unpack(of))
  if call('HINCRBY', '{lineshaft}:leased', of.queue, -#of) <= 0 then
    call('HDEL', '{lineshaft}:leased', of.queue)
  end
end
local rest = decisions * stride + 4
for at = rest, rest + dead * 5 - 1, 5 do
  if answers[tonumber(argv[at])] == 1 then
    local message = argv[at + 1]
    call('HSET', '{lineshaft}:dead', message, argv[at + 2])
    call('ZADD', '{lineshaft}:dead:order', 0, message)
    call('ZADD', '{lineshaft}:dead:at', argv[at + 3], message)
    if argv[at + 4] == '' then
      call('HDEL', '{lineshaft}:dead:requeue', message)
    else
      call('HSET', '{lineshaft}:dead:requeue', message, argv[at + 4])
    end
  end
end
-- In their order: one that ends a lifetime may be behind one that begins it.
for at = rest + dead * 5, rest + dead * 5 + lifetimes * 3 - 1, 3 do
  if answers[tonumber(argv[at])] == 1 then
    if argv[at + 1] == '1' then
      call('ZADD', '{lineshaft}:lifetimes', 0, argv[at + 2])
    else
      call('ZREM', '{lineshaft}:lifetimes', argv[at + 2])
    end
  end
end
return #records == decisions * 2 and 1 or answers
