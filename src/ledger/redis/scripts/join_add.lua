-- Adds members that ended to their joins. Behind `join_ends.lua`.
--
-- KEYS  {lineshaft}:records, for routing.
-- ARGV  per member: group, task, `S` or `F` and its outcome.
-- Answers 0. An error that names the key, if one holds what it should not: nothing is written then.
for at = 1, #ARGV, 3 do
  member_ended(ARGV[at], ARGV[at + 1], ARGV[at + 2])
end
local odd = odd_join()
if odd then
  return odd
end
add_members()
return 0
