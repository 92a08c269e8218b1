--[[ restore: push jobs from the record unless Redis knows them, waiting or held by any child.

KEYS  1 {q}:body  2 {q}:levels  3 {q}:due  4 {q}:bell  5… {q}:held:<holder>, all of the queue
ARGV  1 base "{q}:"
      2 then, for each job, three values: id, at (epoch seconds; "0" = now), body ("<prio>:<lane>|…")
Out   how many were missing

Used after Redis lost its data, and for rows that were committed but never pushed.
]]
local base = ARGV[1]
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local added = 0
for i = 2, #ARGV, 3 do
  local id, at, body = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local known = redis.call('HEXISTS', KEYS[1], id)
  for k = 5, #KEYS do
    if known == 1 then break end
    known = redis.call('HEXISTS', KEYS[k], id)
  end
  if known == 0 then
    redis.call('HSET', KEYS[1], id, body)
    added = added + 1
    if at > now then
      redis.call('ZADD', KEYS[3], ARGV[i + 1], id)
    else
      local prio, lane = string.match(body, '^([^:]*):([^|]*)')
      if redis.call('RPUSH', base .. 'ready:' .. prio .. ':' .. lane, id) == 1 then
        redis.call('RPUSH', base .. 'lanes:' .. prio, lane)
        redis.call('ZADD', KEYS[2], prio, prio)
      end
    end
  end
end
if added > 0 then
  for _ = redis.call('LLEN', KEYS[4]) + 1, math.min(added, 8) do redis.call('LPUSH', KEYS[4], '1') end
end
return added
