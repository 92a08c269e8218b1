--[[ stray: of a sample of the jobs that wait, how many no claim can reach.

Uses  entry
KEYS  1 {q}:body  2 {q}:due  3 {q}:unknown  4 {q}:levels
ARGV  1 unused   2 base "{q}:"   3 how many jobs to look at, about
Out   how many of them are in no lane

A lane's list is searched for one of its sampled jobs, the oldest, and only where the list is not longer than 50,000: so a
lane is noticed that was deleted and then filled again.
]]
local base = ARGV[2]
local sample = redis.call('HRANDFIELD', KEYS[1], ARGV[3], 'WITHVALUES')
local needs = redis.call('SMEMBERS', KEYS[3])
local count, oldest = 0, {}
for i = 1, #sample, 2 do
  local id, body = sample[i], sample[i + 1]
  local elsewhere = is_held(body) or redis.call('ZSCORE', KEYS[2], id)
  for _, need in ipairs(needs) do
    elsewhere = elsewhere or redis.call('ZSCORE', base .. 'unknown:' .. need, id)
  end
  if not elsewhere then
    local prio, lane = route_of(body)
    local list = base .. 'ready:' .. prio .. ':' .. lane
    if redis.call('EXISTS', list, base .. 'lanes:' .. prio) < 2 or not redis.call('ZSCORE', KEYS[4], prio) then
      count = count + 1
    elseif not oldest[list] or id < oldest[list] then
      oldest[list] = id
    end
  end
end
local left = 3
for list, id in pairs(oldest) do
  if left > 0 and redis.call('LLEN', list) <= 50000 then
    left = left - 1
    if not redis.call('LPOS', list, id) then count = count + 1 end
  end
end
return count
