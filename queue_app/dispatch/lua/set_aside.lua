--[[ set_aside: take jobs that a child has claimed, and whose task its code does not know, out of all lanes.

Uses  full life fence
KEYS  1 {s}:epoch  2 {q}:body  3 {q}:held:<holder>  4 {q}:unknown  5 {q}:unknown:<need>  6 {q}:fence:<holder>
      7 {q}:cancelled
ARGV  1 what the caller knows of the server's life   2 need: what a child must know, "<backend>|<task>"
      3 fence of the caller   4… ids
Out   an error when the fence stands higher; else how many were set aside (ids that this child no longer holds are
      skipped, and those that were cancelled are only let go of: their rows are ended by the duty `cancel`)

They wait as before (their bodies are back), in no lane: only a child that knows the task, or tries it, takes them.
]]
allow_when_full()
local refused = refuse_if_fenced(KEYS[6], ARGV[3])
if refused then return refused end
count_write()
local count = 0
for i = 4, #ARGV do
  local id = ARGV[i]
  local held = redis.call('HGET', KEYS[3], id)
  if held then
    redis.call('HDEL', KEYS[3], id)
    if redis.call('ZSCORE', KEYS[7], id) then
      redis.call('HDEL', KEYS[2], id)
    else
      redis.call('HSET', KEYS[2], id, string.sub(held, string.find(held, '|', 1, true) + 1))
      redis.call('ZADD', KEYS[5], 0, id)  -- sorted by id, which begins with its time
      count = count + 1
    end
  end
end
if count > 0 then redis.call('SADD', KEYS[4], ARGV[2]) end
return count
