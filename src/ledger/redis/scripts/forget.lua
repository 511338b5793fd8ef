-- Forgets records that are past their time.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  now in µs, less than 1e16; at most how many, up to 1,000.
-- Answers how many.
-- Keeps true: before 1e16 only released and done records are in `ends`, each with the moment at which it is forgotten.
local due = redis.call('ZRANGEBYSCORE', '{lineshaft}:ends', '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
if #due > 0 then
  redis.call('ZREM', '{lineshaft}:ends', unpack(due))
  redis.call('HDEL', '{lineshaft}:records', unpack(due))
  redis.call('HDEL', '{lineshaft}:blobs', unpack(due))
end
return #due
