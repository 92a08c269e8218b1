--[[ offer: a child knows this task: put jobs that were set aside for it to the front of their lanes, oldest first.

KEYS  1 {q}:body  2 {q}:levels  3 {q}:unknown  4 {q}:unknown:<need>
ARGV  1 base "{q}:"   2 need   3 most jobs to take
Out   how many were taken; those among them that no longer wait are forgotten

No bell is rung: whoever offers claims next, before those that do not know the task.
]]
local ids = redis.call('ZRANGE', KEYS[4], 0, tonumber(ARGV[3]) - 1)
if #ids > 0 then
  local bodies = redis.call('HMGET', KEYS[1], unpack(ids))
  for i = #ids, 1, -1 do
    if bodies[i] then
      local prio, lane = string.match(bodies[i], '^([^:]*):([^|]*)')
      if redis.call('LPUSH', ARGV[1] .. 'ready:' .. prio .. ':' .. lane, ids[i]) == 1 then
        redis.call('LPUSH', ARGV[1] .. 'lanes:' .. prio, lane)
        redis.call('ZADD', KEYS[2], prio, prio)
      end
    end
  end
  redis.call('ZREM', KEYS[4], unpack(ids))
end
if redis.call('EXISTS', KEYS[4]) == 0 then redis.call('SREM', KEYS[3], ARGV[2]) end
return #ids
