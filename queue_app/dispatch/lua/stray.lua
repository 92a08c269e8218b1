--[[ stray: count the jobs in a sample that wait where no claim finds them.

Uses  body
KEYS  1 {q}:body  2 {q}:due  3 {q}:unknown  4 {q}:levels
ARGV  1 unused   2 base "{q}:"   3 how many jobs to look at, about
Out   how many of them are in no lane

Up to three lanes of at most 50,000 ids are searched for the oldest of their sampled jobs. This finds lanes that were
deleted and filled again.
]]
local base = ARGV[2]
local sample = redis.call('HRANDFIELD', KEYS[1], ARGV[3], 'WITHVALUES')
local requirements = redis.call('SMEMBERS', KEYS[3])
local count, oldest = 0, {}
for i = 1, #sample, 2 do
  local id, body = sample[i], sample[i + 1]
  local elsewhere = is_held(body) or redis.call('ZSCORE', KEYS[2], id)
  for _, requirement in ipairs(requirements) do
    elsewhere = elsewhere or redis.call('ZSCORE', base .. 'unknown:' .. requirement, id)
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
