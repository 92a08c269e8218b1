--[[ restore: push jobs whose rows were read after `find` said that Redis does not know them.

Uses  life time body tombstone lane portions
KEYS  1 {s}:epoch  2 {q}:body  3 {q}:levels  4 {q}:due  5 {q}:bell  6 {q}:cancelled  7 {q}:restored
ARGV  1 what the caller knows of the server's life   2 base "{q}:"   3 the stamp that `find` gave
      4 then, for each job, three values: id, at (epoch seconds; "0" = now), body ("<prio>:<lane>|…")
Out   an error when the data were lost; else how many were pushed

An id without this stamp is skipped: another restore came later, or this one was carried out already. All are skipped when
the stamp is older than 30 s. A job that was withdrawn less than a minute ago is being cancelled and stays out. If it was
withdrawn earlier and still waits in the record, its cancellation was rolled back. Then its stale place in the queue is
removed (a scan of its lane, which is rare) and it goes in again.
]]
local refused = refuse_if_lost()
if refused then return refused end
local base, stamp = ARGV[2], tonumber(ARGV[3])
local micros = microseconds_of_redis()
local now = micros / 1000000
-- Older rows may have been cancelled since they were read, and a tombstone counts for a minute only.
if micros - stamp > 30000000 then return 0 end
local tombstone_of = tombstones(KEYS[6])
local chosen, young, old = {}, {}, {}

-- A direct push may be on its way for ids made within ten minutes of now, by any host's clock.
local function is_young(id)
  local made = tonumber((string.gsub(string.sub(id, 1, 13), '-', '')), 16)
  return not made or math.abs(now - made / 1000) < 600
end

local function is_known(id, value)
  return value and (not is_held(value) or is_held_indeed(base, value, id))
end

local function may_enter(id, body)
  local when = tombstone_of(id)
  if not when then return true end
  if now - tonumber(when) < 60 then return false end
  redis.call('ZREM', KEYS[6], id)
  redis.call('ZREM', KEYS[4], id)
  remove_from_lane(base, body, id)
  return true
end

for first = 4, #ARGV, 6000 do
  local ids = {}
  for i = first, math.min(first + 5999, #ARGV), 3 do ids[#ids + 1] = ARGV[i] end
  local there = redis.call('HMGET', KEYS[2], unpack(ids))
  local stamps = redis.call('ZMSCORE', KEYS[7], unpack(ids))
  for n, id in ipairs(ids) do
    local i = first + 3 * (n - 1)
    if stamps[n] and tonumber(stamps[n]) == stamp and not is_known(id, there[n]) and may_enter(id, ARGV[i + 2]) then
      chosen[#chosen + 1] = i
      if is_young(id) then
        young[#young + 1] = string.format('%.0f', micros)
        young[#young + 1] = id
      else
        old[#old + 1] = id
      end
    end
  end
end
if #chosen > 0 then
  add_jobs(base, KEYS[2], KEYS[3], KEYS[4], KEYS[5], chosen, now)
  in_portions(young, 'ZADD', KEYS[7])
  in_portions(old, 'ZREM', KEYS[7])
  redis.call('EXPIRE', KEYS[7], 120)
end
return #chosen
