--[[ forget: remove the remains of an idle queue.

Uses  contents
KEYS  1 {q}:body  2 {q}:holders  3 {q}:paused  4 {q}:cancelled  5 {q}:levels  6 {q}:due  7 {q}:bell  8 {q}:ended
      9 {q}:unknown
ARGV  1 base "{q}:"
Out   1 when all was removed; 0, and nothing was removed, when a job waits, a child may hold one, the queue is paused, or
      a job was cancelled within the last ten minutes

Where no job has a body, the ids in lanes are those of cancelled jobs.
]]
local base = ARGV[1]
if redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3]) > 0 then return 0 end
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', tonumber(redis.call('TIME')[1]) - 600)
if redis.call('EXISTS', KEYS[4]) == 1 then return 0 end
local ready, lanes = lane_keys(base)
remove_keys(ready, lanes, set_aside_keys(base), {KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]})
return 1
