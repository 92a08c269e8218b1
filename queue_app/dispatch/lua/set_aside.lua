--[[ set_aside: keep claimed jobs whose task the child's code does not know, in no lane.

Uses  full fence tombstone take_back
KEYS  1 {s}:epoch  2 {q}:body  3 {q}:held:<holder>  4 {q}:unknown  5 {q}:unknown:<requirement>  6 {q}:fence:<holder>
      7 {q}:cancelled
ARGV  1 what the caller knows of the server's life   2 the requirement: what a child must know, "<backend>|<task>"
      3 fence of the caller   4… ids
Out   an error when the call came too late (see fence); else how many were set aside

They wait as before: their bodies are back. Only a child that knows the task, or tries it, takes them. Ids that this child
no longer holds are skipped. Cancelled jobs are not set aside.
]]
allow_when_full()
local refused = refuse_release(KEYS[6], ARGV[3])
if refused then return refused end
local count = 0
local tombstone_of = tombstones(KEYS[7])
for i = 4, #ARGV do
  if take_back(ARGV[i], KEYS[2], KEYS[3], tombstone_of) then
    redis.call('ZADD', KEYS[5], 0, ARGV[i])  -- all have one score, so they are sorted by id, which begins with its time
    count = count + 1
  end
end
if count > 0 then redis.call('SADD', KEYS[4], ARGV[2]) end
return count
