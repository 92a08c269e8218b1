--[[ settle: after the commit, let go of jobs that a child held, and queue those that go on.

Uses  full fence body tombstone lane bell
KEYS  1 {s}:epoch  2 {q}:body  3 {q}:levels  4 {q}:due  5 {q}:bell  6 {q}:held:<holder>
      7 {q}:fence:<holder>  8 {q}:ended
ARGV  1 what the caller knows of the server's life   2 base "{q}:"   3 holder   4 its fence
      5 what to add to the counters of 8, "<field> <number> …"
      6 count f of finished ids, then those ids; then, for each job that goes on, three values: id, at (epoch seconds;
      "0" = now), body ("<prio>:<lane>|…")
Out   an error when the call came too late (see fence); else how many of the ids this child held

Nothing is done for ids that were taken away from this child. A job that would go on but was cancelled meanwhile is not
queued: the duty `cancel` ends its row. The counters come last, so that a full Redis still lets go of jobs.
]]
allow_when_full()
local refused = refuse_release(KEYS[7], ARGV[4])
if refused then return refused end
local base, mine, f = ARGV[2], value_of_holder(ARGV[3]), tonumber(ARGV[6])
local count = 0

-- Forgets ids, except those that another child holds by now.
local function forget(ids)
  local owners = redis.call('HMGET', KEYS[2], unpack(ids))
  for n, id in ipairs(ids) do
    if owners[n] == mine then redis.call('HDEL', KEYS[2], id) end
  end
end

for i = 7, 6 + f, 4000 do
  local last = math.min(i + 3999, 6 + f)
  local held = redis.call('HDEL', KEYS[6], unpack(ARGV, i, last))
  count = count + held
  if held == last - i + 1 then
    redis.call('HDEL', KEYS[2], unpack(ARGV, i, last))
  else
    forget({unpack(ARGV, i, last)})
  end
end
local rung = 0
local tombstone_of = tombstones(base .. 'cancelled')
for i = 7 + f, #ARGV, 3 do
  local id, at, body = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if redis.call('HDEL', KEYS[6], id) == 0 then
    forget({id})
  elseif tombstone_of(id) then
    count = count + 1
    redis.call('HDEL', KEYS[2], id)
  else
    count = count + 1
    redis.call('HSET', KEYS[2], id, body)
    if tonumber(at) > 0 then
      redis.call('ZADD', KEYS[4], at, id)
      if redis.call('ZRANK', KEYS[4], id) == 0 then rung = math.max(rung, 1) end
    else
      add_to_lane(base, KEYS[3], body, id)
      rung = rung + 1
    end
  end
end
ring(KEYS[5], rung)
for field, number in string.gmatch(ARGV[5], '(%S+) (%d+)') do redis.call('HINCRBY', KEYS[8], field, number) end
return count
