--[[ claim: hand out up to n jobs of a queue to one child, highest priority first, FIFO within, lanes in turn.

KEYS  1 {q}:body  2 {q}:levels  3 {q}:due  4 {q}:bell  5 {q}:held:<holder>  6 {q}:paused
      7 {q}:holders  8 {q}:fence:<holder>
ARGV  1 base "{q}:"   2 n   3 now in epoch seconds, or "" for the clock of Redis   4 holder   5 its fence
Out   an error when the fence stands higher; else { now as text (epoch seconds), next due time as text ("" if none), id, body, id, body … }

What is due is promoted first. An id without a body was cancelled: it is dropped here and costs nothing more.
An id moves from `body` to `held` in this script, so it is never in neither nor in both.
]]
if tonumber(redis.call('GET', KEYS[8]) or 0) > tonumber(ARGV[5]) then
  return redis.error_reply('FENCED a call of this child that came too late')
end
local base, want = ARGV[1], tonumber(ARGV[2])
local now = ARGV[3]
if now == '' then
  local t = redis.call('TIME')
  now = t[1] .. '.' .. string.format('%06d', t[2])
end
local out = {now, ''}
if redis.call('EXISTS', KEYS[6]) == 1 then return out end

local due = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
if due[2] and tonumber(due[2]) <= tonumber(now) then
  -- The time is up for some: promote them, each to the end of its lane.
  local ids = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1000)
  local bodies = redis.call('HMGET', KEYS[1], unpack(ids))
  for i, id in ipairs(ids) do
    if bodies[i] then
      local prio, lane = string.match(bodies[i], '^([^:]*):([^|]*)')
      if redis.call('RPUSH', base .. 'ready:' .. prio .. ':' .. lane, id) == 1 then
        redis.call('RPUSH', base .. 'lanes:' .. prio, lane)
        redis.call('ZADD', KEYS[2], prio, prio)
      end
    end
  end
  redis.call('ZREM', KEYS[3], unpack(ids))
  due = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
end
out[2] = due[2] or ''

local stamp = string.format('%.0f', tonumber(now) * 1000) .. '|'
local left = false
local seen = {}
local scanned = 0  -- bounds one call where very many were cancelled
for _, prio in ipairs(redis.call('ZREVRANGE', KEYS[2], 0, -1)) do
  local lanes = base .. 'lanes:' .. prio
  while want > 0 and scanned < 20000 do
    local lane = redis.call('LPOP', lanes)
    if not lane then break end
    local list = base .. 'ready:' .. prio .. ':' .. lane
    -- With other lanes waiting, take a fair share and go to the end of the line.
    local others = redis.call('LLEN', lanes)
    local share = others > 0 and math.max(1, math.ceil(want / (others + 1))) or want
    local ids = redis.call('LPOP', list, share)
    if ids then
      scanned = scanned + #ids
      if redis.call('EXISTS', list) == 1 then redis.call('RPUSH', lanes, lane) end
      local bodies = redis.call('HMGET', KEYS[1], unpack(ids))
      local gone, hold = {}, {}
      for i, id in ipairs(ids) do
        local body = bodies[i]
        if body and not seen[id] then
          seen[id] = true
          gone[#gone + 1] = id
          hold[#hold + 1] = id
          hold[#hold + 1] = stamp .. body
          out[#out + 1] = id
          out[#out + 1] = body
          want = want - 1
        end
      end
      if #gone > 0 then
        redis.call('SADD', KEYS[7], ARGV[4])
        redis.call('HDEL', KEYS[1], unpack(gone))
        redis.call('HSET', KEYS[5], unpack(hold))
      end
    end
  end
  if redis.call('EXISTS', lanes) == 0 then
    redis.call('ZREM', KEYS[2], prio)
  elseif want <= 0 or scanned >= 20000 then
    left = true
    break
  end
end
if left or redis.call('ZCARD', KEYS[2]) > 0 then
  if redis.call('EXISTS', KEYS[4]) == 0 then redis.call('LPUSH', KEYS[4], '1') end
else
  redis.call('DEL', KEYS[4])
end
return out
