--[[ settle: after the commit, let go of jobs that a child held; put those that go on back into the queue.

KEYS  1 {q}:body  2 {q}:levels  3 {q}:due  4 {q}:bell  5 {q}:held:<holder>
      6 {q}:fence:<holder>  7 {q}:ended
ARGV  1 base "{q}:"   2 fence of the caller   3 what to add to the figures of 7, "<field> <number> …"
      4 count f of finished ids, then those ids; then, for each job that goes on, three values: id, at (epoch seconds; "0" = now), body ("<prio>:<lane>|…")
Out   an error when the fence stands higher; else how many of the ids were held by this child (others were taken away from it: nothing is done for them)

One that was to go on but has been cancelled meanwhile goes nowhere: its row is ended by the duty `cancel`.
]]
if tonumber(redis.call('GET', KEYS[6]) or 0) > tonumber(ARGV[2]) then
  return redis.error_reply('FENCED a call of this child that came too late')
end
local base, f = ARGV[1], tonumber(ARGV[4])
for field, number in string.gmatch(ARGV[3], '(%S+) (%d+)') do redis.call('HINCRBY', KEYS[7], field, number) end
local count = 0
for i = 5, 4 + f, 4000 do
  count = count + redis.call('HDEL', KEYS[5], unpack(ARGV, i, math.min(i + 3999, 4 + f)))
end
local ring = 0
local marked = 5 + f <= #ARGV and redis.call('EXISTS', base .. 'cancelled') == 1
for i = 5 + f, #ARGV, 3 do
  local id, at, body = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local there = redis.call('HDEL', KEYS[5], id) == 1
  if there then count = count + 1 end
  if there and not (marked and redis.call('ZSCORE', base .. 'cancelled', id)) then
    redis.call('HSET', KEYS[1], id, body)
    if tonumber(at) > 0 then
      redis.call('ZADD', KEYS[3], at, id)
      if redis.call('ZRANK', KEYS[3], id) == 0 then ring = math.max(ring, 1) end
    else
      local prio, lane = string.match(body, '^([^:]*):([^|]*)')
      if redis.call('RPUSH', base .. 'ready:' .. prio .. ':' .. lane, id) == 1 then
        redis.call('RPUSH', base .. 'lanes:' .. prio, lane)
        redis.call('ZADD', KEYS[2], prio, prio)
      end
      ring = ring + 1
    end
  end
end
for _ = redis.call('LLEN', KEYS[4]) + 1, math.min(ring, 8) do redis.call('LPUSH', KEYS[4], '1') end
return count
