--[[ hold: a living child's running jobs are announced again after Redis lost its data.

Uses  full life time entry lane
KEYS  1 {s}:epoch  2 {q}:body  3 {q}:held:<holder>  4 {q}:holders  5 {q}:due
ARGV  1 what the caller knows of the server's life   2 base "{q}:"   3 holder   4 claimed at (epoch milliseconds)
      5 then, for each job, two values: id, body
Out   an error while stale data are still there; else how many were announced (those that another child has got
      meanwhile are not)

An announcement may come after the record's rows were put back. Then the job waits already: it is taken out of its lane,
or out of what is due, as a claim does. Else the entry left there would start a later attempt before its time.
]]
allow_when_full()
if not is_of_this_life(redis.call('GET', KEYS[1])) then return redis.error_reply(LOST) end
local base, mine, count = ARGV[2], '@' .. ARGV[3], 0
local stamp = string.format('%.0f', microseconds_of_redis())
for i = 5, #ARGV, 2 do
  local id = ARGV[i]
  local owner = redis.call('HGET', KEYS[2], id)
  local taken = owner and owner ~= mine and is_held(owner)
    and redis.call('HEXISTS', base .. 'held:' .. string.sub(owner, 2), id) == 1
  if not taken then
    if owner and not is_held(owner) and redis.call('ZREM', KEYS[5], id) == 0 then
      remove_from_lane(base, owner, id)
    end
    redis.call('HSET', KEYS[3], id, ARGV[4] .. '|' .. ARGV[i + 1])
    redis.call('HSET', KEYS[2], id, mine)
    -- A sweep that looked for it before must not push it after it has ended.
    redis.call('ZADD', base .. 'restored', 'XX', stamp, id)
    count = count + 1
  end
end
if count > 0 then redis.call('SADD', KEYS[4], ARGV[3]) end
return count
