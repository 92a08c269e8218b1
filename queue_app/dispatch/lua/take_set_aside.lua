--[[ take_set_aside: hand out jobs that were set aside to a child that knows their task or tries it, oldest first.

Uses  full fence time hand_out
KEYS  1 {s}:epoch  2 {q}:body  3 {q}:unknown  4 {q}:unknown:<requirement>  5 {q}:held:<holder>  6 {q}:paused
      7 {q}:holders  8 {q}:fence:<holder>
ARGV  1 what the caller knows of the server's life   2 the requirement   3 most jobs to take   4 holder   5 its fence
Out   an error when the data were lost or the call came too late (see fence); else { now as text (epoch seconds), jobs that are
      still set aside (0 while the queue is paused), id, body, id, body … }

They go straight to the caller. From a lane, a child that does not know the task might claim them and set them aside again.
]]
allow_when_full()
local refused = refuse_claim(KEYS[8], ARGV[5])
if refused then return refused end
local now = time_of_redis()
local out = {now, 0}
if redis.call('EXISTS', KEYS[6]) == 1 then return out end
local ids = redis.call('ZRANGE', KEYS[4], 0, tonumber(ARGV[3]) - 1)
if #ids > 0 then
  hand_out(ids, KEYS[2], KEYS[5], KEYS[7], ARGV[4], stamp_of(now), {}, out)
  redis.call('ZREM', KEYS[4], unpack(ids))
end
out[2] = redis.call('ZCARD', KEYS[4])
if out[2] == 0 then redis.call('SREM', KEYS[3], ARGV[2]) end
return out
