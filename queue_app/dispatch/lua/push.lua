--[[ push: put new jobs into a queue, ready or due, shortly after their commit. Idempotent.

Uses  life lane
KEYS  1 {s}:epoch  2 {q}:body  3 {q}:levels  4 {q}:due  5 {q}:bell  6 {q}:cancelled  7 {q}:restored
ARGV  1 what the caller knows of the server's life; its third part: seconds from the caller's monotonic clock to Redis's
      2 base "{q}:"   3 until when it counts as direct, on the caller's monotonic clock ("" = for ever)
      4 then, for each job, three values: id, at (epoch seconds; "0" = now), body ("<prio>:<lane>|…")
Out   how many were new; -1 when the push comes too late, so that `restore` has to read the rows first

Left alone are ids that Redis knows, ids that were cancelled, and ids that a restore has pushed or is about to push.
]]
if not phase_of_life() then return redis.error_reply(LOST) end
local base = ARGV[2]
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
if ARGV[3] ~= '' then
  local offset = string.match(ARGV[1], '([^|]*)$')
  local left = tonumber(ARGV[3]) + tonumber(offset) - now
  if left <= 0 then return -1 end
  -- The same call once more, repeated on its way, must not run jobs again that have ended.
  local once = base .. 'pushed:' .. ARGV[4]
  if not redis.call('SET', once, '', 'NX', 'PX', string.format('%.0f', left * 1000 + 1)) then return 0 end
end
local withdrawn = redis.call('EXISTS', KEYS[6]) == 1
local restored = redis.call('EXISTS', KEYS[7]) == 1
local jobs, seen = {}, {}
for first = 4, #ARGV, 6000 do
  local last = math.min(first + 5999, #ARGV)
  local ids = {}
  for i = first, last, 3 do ids[#ids + 1] = ARGV[i] end
  local there = redis.call('HMGET', KEYS[2], unpack(ids))
  for n, id in ipairs(ids) do
    if not there[n] and not seen[id]
      and not (withdrawn and redis.call('ZSCORE', KEYS[6], id))
      and not (restored and redis.call('ZSCORE', KEYS[7], id)) then
      seen[id] = true
      local i = first + 3 * (n - 1)
      jobs[#jobs + 1] = id
      jobs[#jobs + 1] = ARGV[i + 1]
      jobs[#jobs + 1] = ARGV[i + 2]
    end
  end
end
add_jobs(base, {body = KEYS[2], levels = KEYS[3], due = KEYS[4], bell = KEYS[5]}, jobs, now)
return #jobs / 3
