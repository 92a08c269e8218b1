--[[ claim: hand out up to n jobs of a queue to one child, highest priority first, FIFO within, lanes in turn.

Uses  full fence time body lane bell hand_out
KEYS  1 {s}:epoch  2 {q}:body  3 {q}:levels  4 {q}:due  5 {q}:bell  6 {q}:held:<holder>  7 {q}:paused
      8 {q}:holders  9 {q}:fence:<holder>
ARGV  1 what the caller knows of the server's life   2 base "{q}:"   3 n   4 now in epoch seconds, or "" for the clock
      of Redis   5 holder   6 its fence
Out   an error when the data were lost or the call came too late (see fence); else { now as text (epoch seconds), next due
      time as text ("" if none), "<epoch> <writes counted>" ("" where the server's life is known), id, body, id, body … }

Due jobs are promoted first. An id without a body was cancelled: it is dropped here, at no further cost. An id moves from
`body` to `held` in this script; its value in `body` names the holder from then on.
]]
allow_when_full()
local refused = refuse_claim(KEYS[9], ARGV[6])
if refused then return refused end
local base, want = ARGV[2], tonumber(ARGV[3])
local now = ARGV[4] ~= '' and ARGV[4] or time_of_redis()
local out = {now, '', counted}
if redis.call('EXISTS', KEYS[7]) == 1 then return out end

local due = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
if due[2] and tonumber(due[2]) <= tonumber(now) then
  -- Promote due jobs, each to the end of its lane.
  local ids = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, 1000)
  local bodies = redis.call('HMGET', KEYS[2], unpack(ids))
  for i, id in ipairs(ids) do
    if bodies[i] and not is_held(bodies[i]) then add_to_lane(base, KEYS[3], bodies[i], id) end
  end
  redis.call('ZREM', KEYS[4], unpack(ids))
  due = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
end
out[2] = due[2] or ''

local stamp = stamp_of(now)
local left = false
local handed = {}
local scanned = 0  -- bounds a call that meets very many cancelled ids
for _, prio in ipairs(redis.call('ZREVRANGE', KEYS[3], 0, -1)) do
  local lanes = base .. 'lanes:' .. prio
  while want > 0 and scanned < 20000 do
    local lane = redis.call('LPOP', lanes)
    if not lane then break end
    local list = base .. 'ready:' .. prio .. ':' .. lane
    -- If other lanes wait, this lane gives a fair share and goes to the end.
    local others = redis.call('LLEN', lanes)
    local share = others > 0 and math.max(1, math.ceil(want / (others + 1))) or want
    -- Cancelled ids do not use up a lane's share.
    local ids, missing = redis.call('LPOP', list, share), share
    while ids do
      scanned = scanned + #ids
      local more = #ids == missing
      missing = missing - hand_out(ids, KEYS[2], KEYS[6], KEYS[8], ARGV[5], stamp, handed, out)
      if not more or missing <= 0 or scanned >= 20000 then break end
      ids = redis.call('LPOP', list, missing)
    end
    want = want - (share - missing)
    if redis.call('EXISTS', list) == 1 then redis.call('RPUSH', lanes, lane) end
  end
  if redis.call('EXISTS', lanes) == 0 then
    redis.call('ZREM', KEYS[3], prio)
  elseif want <= 0 or scanned >= 20000 then
    left = true
    break
  end
end
if left or redis.call('ZCARD', KEYS[3]) > 0 then
  ring(KEYS[5], 1)
else
  redis.call('DEL', KEYS[5])
end
return out
