--[[ restore: push jobs from the record unless Redis knows them, waiting or held by any child.

KEYS  1 {q}:body  2 {q}:levels  3 {q}:due  4 {q}:bell  5 {q}:cancelled  6 {q}:holders
ARGV  1 base "{q}:"
      2 then, for each job, three values: id, at (epoch seconds; "0" = now), body ("<prio>:<lane>|…")
Out   how many were missing

Used after Redis lost its data, and for rows that were committed but never pushed. One that was withdrawn less than a
minute ago is being cancelled and stays out; one withdrawn before that still waits in the record, so its cancellation
was rolled back: its stale place in the queue is removed (the one scan of a list, and a rare one) and it goes in again.
]]
local base = ARGV[1]
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local held = {}
for _, holder in ipairs(redis.call('SMEMBERS', KEYS[6])) do held[#held + 1] = base .. 'held:' .. holder end
local withdrawn = redis.call('EXISTS', KEYS[5]) == 1
local added = 0
for i = 2, #ARGV, 3 do
  local id, at, body = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local prio, lane = string.match(body, '^([^:]*):([^|]*)')
  local known = redis.call('HEXISTS', KEYS[1], id)
  for k = 1, #held do
    if known == 1 then break end
    known = redis.call('HEXISTS', held[k], id)
  end
  if known == 0 and withdrawn then
    local when = redis.call('ZSCORE', KEYS[5], id)
    if when and now - tonumber(when) < 60 then
      known = 1
    elseif when then
      redis.call('ZREM', KEYS[5], id)
      redis.call('ZREM', KEYS[3], id)
      local list = base .. 'ready:' .. prio .. ':' .. lane
      if redis.call('LREM', list, 0, id) > 0 and redis.call('EXISTS', list) == 0 then
        redis.call('LREM', base .. 'lanes:' .. prio, 0, lane)
      end
    end
  end
  if known == 0 then
    redis.call('HSET', KEYS[1], id, body)
    added = added + 1
    if at > now then
      redis.call('ZADD', KEYS[3], ARGV[i + 1], id)
    elseif redis.call('RPUSH', base .. 'ready:' .. prio .. ':' .. lane, id) == 1 then
      redis.call('RPUSH', base .. 'lanes:' .. prio, lane)
      redis.call('ZADD', KEYS[2], prio, prio)
    end
  end
end
if added > 0 then
  for _ = redis.call('LLEN', KEYS[4]) + 1, math.min(added, 8) do redis.call('LPUSH', KEYS[4], '1') end
end
return added
