--[[ offer: a child knows this task: put jobs that were set aside for it to the front of their lanes, oldest first.

Uses  full life lane
KEYS  1 {s}:epoch  2 {q}:body  3 {q}:levels  4 {q}:unknown  5 {q}:unknown:<need>
ARGV  1 what the caller knows of the server's life   2 base "{q}:"   3 need   4 most jobs to take
Out   how many were taken; those among them that no longer wait are forgotten

No bell is rung: the caller claims next, before those that do not know the task.
]]
allow_when_full()
local refused = refuse_if_lost()
if refused then return refused end
local ids = redis.call('ZRANGE', KEYS[5], 0, tonumber(ARGV[4]) - 1)
if #ids > 0 then
  local bodies = redis.call('HMGET', KEYS[2], unpack(ids))
  for i = #ids, 1, -1 do
    if bodies[i] and string.byte(bodies[i]) ~= 64 then add_to_lane(ARGV[2], KEYS[3], bodies[i], ids[i], true) end
  end
  redis.call('ZREM', KEYS[5], unpack(ids))
end
if redis.call('EXISTS', KEYS[5]) == 0 then redis.call('SREM', KEYS[4], ARGV[3]) end
return #ids
