--[[ give_back: return claimed jobs that have not been started to the front of their lanes, in the order given.

KEYS  1 {q}:body  2 {q}:levels  3 {q}:bell  4 {q}:held:<holder>  5 {q}:fence:<holder>
ARGV  1 base "{q}:"   2 fence of the caller   3… ids, first one first to run
Out   an error when the fence stands higher; else how many were given back (ids that this child no longer holds are skipped, and those that were cancelled are
      only let go of: their rows are ended by the duty `cancel`)
]]
if tonumber(redis.call('GET', KEYS[5]) or 0) > tonumber(ARGV[2]) then
  return redis.error_reply('FENCED a call of this child that came too late')
end
local base, count = ARGV[1], 0
local marked = redis.call('EXISTS', base .. 'cancelled') == 1
for i = #ARGV, 3, -1 do
  local id = ARGV[i]
  local held = redis.call('HGET', KEYS[4], id)
  if held and marked and redis.call('ZSCORE', base .. 'cancelled', id) then
    redis.call('HDEL', KEYS[4], id)
  elseif held then
    local body = string.sub(held, string.find(held, '|', 1, true) + 1)
    local prio, lane = string.match(body, '^([^:]*):([^|]*)')
    redis.call('HDEL', KEYS[4], id)
    redis.call('HSET', KEYS[1], id, body)
    if redis.call('LPUSH', base .. 'ready:' .. prio .. ':' .. lane, id) == 1 then
      redis.call('LPUSH', base .. 'lanes:' .. prio, lane)
      redis.call('ZADD', KEYS[2], prio, prio)
    end
    count = count + 1
  end
end
for _ = redis.call('LLEN', KEYS[3]) + 1, math.min(count, 8) do redis.call('LPUSH', KEYS[3], '1') end
return count
