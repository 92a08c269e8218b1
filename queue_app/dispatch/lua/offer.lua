--[[ offer: a child knows this task: put jobs that were set aside for it to the front of their lanes, oldest first.

KEYS  1 {q}:body  2 {q}:levels  3 {q}:unknown  4 {q}:unknown:<need>
ARGV  1 base "{q}:"   2 need   3 most jobs to look at
      4 "" to offer; or a number from 0 to 1: only forget those that were cancelled, looking from this part of them on
Out   how many were offered, or forgotten

No bell is rung: whoever offers claims next, before those that do not know the task.
]]
local base, most = ARGV[1], tonumber(ARGV[3])
local start = 0
if ARGV[4] ~= '' then
  start = math.max(0, math.floor((redis.call('ZCARD', KEYS[4]) - most) * tonumber(ARGV[4])))
end
local ids = redis.call('ZRANGE', KEYS[4], start, start + most - 1)
local offered, gone = 0, {}
if #ids > 0 then
  local bodies = redis.call('HMGET', KEYS[1], unpack(ids))
  for i = #ids, 1, -1 do
    if not bodies[i] then
      gone[#gone + 1] = ids[i]
    elseif ARGV[4] == '' then
      local prio, lane = string.match(bodies[i], '^([^:]*):([^|]*)')
      if redis.call('LPUSH', base .. 'ready:' .. prio .. ':' .. lane, ids[i]) == 1 then
        redis.call('LPUSH', base .. 'lanes:' .. prio, lane)
        redis.call('ZADD', KEYS[2], prio, prio)
      end
      offered = offered + 1
    end
  end
  if ARGV[4] == '' then
    redis.call('ZREM', KEYS[4], unpack(ids))
  elseif #gone > 0 then
    redis.call('ZREM', KEYS[4], unpack(gone))
  end
end
if redis.call('EXISTS', KEYS[4]) == 0 then redis.call('SREM', KEYS[3], ARGV[2]) end
if ARGV[4] == '' then return offered end
return #gone
