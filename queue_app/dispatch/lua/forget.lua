--[[ forget: drop what is left of a queue in which there is nothing to do.

KEYS  1 {q}:body  2 {q}:holders  3 {q}:paused  4 {q}:cancelled  5 {q}:levels  6 {q}:due  7 {q}:bell  8 {q}:ended
      9 {q}:unknown
ARGV  1 base "{q}:"
Out   1 when all was dropped; 0 when a job waits, a child may hold one, the queue is paused, or a job of it was cancelled
      within the last ten minutes: nothing was dropped then

Without bodies, the ids in lanes are those of cancelled jobs.
]]
local base = ARGV[1]
if redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3]) > 0 then return 0 end
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', tonumber(redis.call('TIME')[1]) - 600)
if redis.call('EXISTS', KEYS[4]) == 1 then return 0 end
for _, prio in ipairs(redis.call('ZRANGE', KEYS[5], 0, -1)) do
  local lanes = base .. 'lanes:' .. prio
  for _, lane in ipairs(redis.call('LRANGE', lanes, 0, -1)) do redis.call('DEL', base .. 'ready:' .. prio .. ':' .. lane) end
  redis.call('DEL', lanes)
end
for _, need in ipairs(redis.call('SMEMBERS', KEYS[9])) do redis.call('DEL', base .. 'unknown:' .. need) end
redis.call('DEL', KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9])
return 1
