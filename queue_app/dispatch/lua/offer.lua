--[[ offer: a child knows this task: put jobs that were set aside for it to the front of their lanes, oldest first.

KEYS  1 {q}:body  2 {q}:levels  3 {q}:unknown  4 {q}:unknown:<need>
ARGV  1 base "{q}:"   2 need   3 most jobs to offer, or to look at
      4 "" to offer; or a number from 0 to 1: only forget those that were cancelled, looking from this part of them on
Out   how many were offered, or forgotten; when offering, 0 says that there is none left, or 19,000 cancelled ones before it

No bell is rung: whoever offers claims next, before those that do not know the task.
]]
local base, most, offering = ARGV[1], tonumber(ARGV[3]), ARGV[4] == ''

-- The bodies of the ids from `start` on; and of the ids, those that were cancelled, as they have none.
local function look(start, count)
  local ids, there, gone = redis.call('ZRANGE', KEYS[4], start, start + count - 1), {}, {}
  local bodies = #ids > 0 and redis.call('HMGET', KEYS[1], unpack(ids)) or {}
  for i, id in ipairs(ids) do
    if bodies[i] then there[#there + 1] = {id, bodies[i]} else gone[#gone + 1] = id end
  end
  if #gone > 0 then redis.call('ZREM', KEYS[4], unpack(gone)) end
  return there, #gone
end

local done = 0
if offering then
  local found, gone
  for n = 1, 20 do
    found, gone = look(0, n == 1 and most or 1000)
    if #found > 0 or gone == 0 then break end
  end
  done = math.min(#found, most)
  for i = done, 1, -1 do
    local id, body = found[i][1], found[i][2]
    local prio, lane = string.match(body, '^([^:]*):([^|]*)')
    if redis.call('LPUSH', base .. 'ready:' .. prio .. ':' .. lane, id) == 1 then
      redis.call('LPUSH', base .. 'lanes:' .. prio, lane)
      redis.call('ZADD', KEYS[2], prio, prio)
    end
    redis.call('ZREM', KEYS[4], id)
  end
else
  local start = math.floor((redis.call('ZCARD', KEYS[4]) - most) * tonumber(ARGV[4]))
  local _, gone = look(math.max(0, start), most)
  done = gone
end
if redis.call('EXISTS', KEYS[4]) == 0 then redis.call('SREM', KEYS[3], ARGV[2]) end
return done
