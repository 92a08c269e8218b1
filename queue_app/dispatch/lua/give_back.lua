--[[ give_back: return claimed jobs that have not been started to the front of their lanes, in the order given.

Uses  full fence tombstone take_back lane bell
KEYS  1 {s}:epoch  2 {q}:body  3 {q}:levels  4 {q}:bell  5 {q}:held:<holder>  6 {q}:fence:<holder>
ARGV  1 what the caller knows of the server's life   2 base "{q}:"   3 fence of the caller   4… ids, first one first to run
Out   an error when the call came too late (see fence); else how many were given back

Ids that this child no longer holds are skipped. Cancelled jobs are not queued again.
]]
allow_when_full()
local refused = refuse_release(KEYS[6], ARGV[3])
if refused then return refused end
local base, count = ARGV[2], 0
local tombstone_of = tombstones(base .. 'cancelled')
for i = #ARGV, 4, -1 do
  local body = take_back(ARGV[i], KEYS[2], KEYS[5], tombstone_of)
  if body then
    add_to_lane(base, KEYS[3], body, ARGV[i], true)
    count = count + 1
  end
end
ring(KEYS[4], count)
return count
