--[[ park: set jobs aside that a child has claimed and whose task its code does not know, until a child comes that does.

KEYS  1 {q}:body  2 {q}:held:<holder>  3 {q}:unknown  4 {q}:unknown:<need>
      5 {q}:fence:<holder>
ARGV  1 need: what a child must know, "<backend>|<task>"   2 fence of the caller   3… ids
Out   an error when the fence stands higher; else how many were set aside (ids that this child no longer holds are skipped)

They wait as before (their bodies are back), in no lane: nobody claims them until `offer` puts them back.
]]
if tonumber(redis.call('GET', KEYS[5]) or 0) > tonumber(ARGV[2]) then
  return redis.error_reply('FENCED a call of this child that came too late')
end
local now = redis.call('TIME')[1]
local count = 0
for i = 3, #ARGV do
  local id = ARGV[i]
  local held = redis.call('HGET', KEYS[2], id)
  if held then
    redis.call('HDEL', KEYS[2], id)
    redis.call('HSET', KEYS[1], id, string.sub(held, string.find(held, '|', 1, true) + 1))
    redis.call('ZADD', KEYS[4], now, id)
    count = count + 1
  end
end
if count > 0 then redis.call('SADD', KEYS[3], ARGV[1]) end
return count
