--[[ push: put new jobs into a queue, ready or due, shortly after their commit. A repetition changes nothing.

Uses  life time lane
KEYS  1 {s}:epoch  2 {q}:body  3 {q}:levels  4 {q}:due  5 {q}:bell  6 {q}:cancelled  7 {q}:restored
ARGV  1 what the caller knows of the server's life; its third part: seconds from the caller's monotonic clock to Redis's
      2 base "{q}:"   3 when the jobs were made, on the caller's monotonic clock ("" = they count as direct for ever)
      4 seconds from then within which a push is direct
      5 then, for each job, three values: id, at (epoch seconds; "0" = now), body ("<prio>:<lane>|…")
Out   an error when the data are stale; else how many were new; -1 when the push comes too late, or the jobs were made
      before the data were lost: then the caller reads the rows and uses `restore`

Skipped are ids that Redis knows, ids that were cancelled, and ids that a restore has pushed or is about to push.
]]
local epoch = redis.call('GET', KEYS[1])
local refused = refuse_if_stale(epoch)
if refused then return refused end
local base = ARGV[2]
local now = microseconds_of_redis() / 1000000
if ARGV[3] ~= '' then
  local made = ARGV[3] + string.match(ARGV[1], '^[^|]*|[^|]*|(.*)')
  local left = made + ARGV[4] - now
  -- Of jobs made before the epoch began, Redis does not know which were pushed or restored already.
  local begun = string.match(epoch, '^[^|]*|[^|]*|([^|]*)|')
  -- If more time is left than there was, the clock of Redis was set back, and the jobs' age is unknown.
  if left <= 0 or left > ARGV[4] + 1 or (begun and made <= tonumber(begun)) then return -1 end
  -- A copy of this call that the network repeated must not run ended jobs again.
  if not redis.call('SET', base .. 'pushed:' .. ARGV[5], '', 'NX', 'PX', math.ceil(left * 1000)) then return 0 end
end
local kept_out = redis.call('EXISTS', KEYS[6], KEYS[7]) > 0
local chosen, seen = {}, {}
for first = 5, #ARGV, 6000 do
  local ids = {}
  for i = first, math.min(first + 5999, #ARGV), 3 do ids[#ids + 1] = ARGV[i] end
  local there = redis.call('HMGET', KEYS[2], unpack(ids))
  for n = 1, #ids do
    local id = ids[n]
    if not there[n] and not seen[id]
      and not (kept_out and (redis.call('ZSCORE', KEYS[6], id) or redis.call('ZSCORE', KEYS[7], id))) then
      seen[id] = true
      chosen[#chosen + 1] = first + 3 * (n - 1)
    end
  end
end
add_jobs(base, KEYS[2], KEYS[3], KEYS[4], KEYS[5], chosen, now)
return #chosen
