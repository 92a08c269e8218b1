--[[ hold: announce again the running jobs of a living child, after Redis lost its data.

Uses  full life time body lane
KEYS  1 {s}:epoch  2 {q}:body  3 {q}:held:<holder>  4 {q}:holders  5 {q}:due
ARGV  1 what the caller knows of the server's life   2 base "{q}:"   3 holder   4 claimed at (epoch milliseconds)
      5 then, for each job, two values: id, body
Out   an error while stale data are still there; else how many were announced. Not announced are jobs that another child
      holds by now

An announcement may come after the waiting rows were put back. Then the job waits already, and is removed from its lane or
from `due`, as a claim does. Otherwise the id that stays there would start a later attempt before its time.
]]
allow_when_full()
local refused = refuse_if_stale(redis.call('GET', KEYS[1]))
if refused then return refused end
local base, mine, count = ARGV[2], value_of_holder(ARGV[3]), 0
local stamp = string.format('%.0f', microseconds_of_redis())
for i = 5, #ARGV, 2 do
  local id = ARGV[i]
  local owner = redis.call('HGET', KEYS[2], id)
  if not (owner and owner ~= mine and is_held_indeed(base, owner, id)) then
    if owner and not is_held(owner) and redis.call('ZREM', KEYS[5], id) == 0 then
      remove_from_lane(base, owner, id)
    end
    redis.call('HSET', KEYS[3], id, ARGV[4] .. '|' .. ARGV[i + 1])
    redis.call('HSET', KEYS[2], id, mine)
    -- A sweep that looked for the job before this must not push it after it has ended.
    redis.call('ZADD', base .. 'restored', 'XX', stamp, id)
    count = count + 1
  end
end
if count > 0 then redis.call('SADD', KEYS[4], ARGV[3]) end
return count
