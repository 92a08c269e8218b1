--[[ contents: finds the keys of a queue that hold ids of jobs, and removes keys. ]]

-- The lists of ids in lanes; and for each priority the list of its lanes.
local function lane_keys(base)
  local ready, lanes = {}, {}
  for _, prio in ipairs(redis.call('ZRANGE', base .. 'levels', 0, -1)) do
    local turns = base .. 'lanes:' .. prio
    for _, lane in ipairs(redis.call('LRANGE', turns, 0, -1)) do
      ready[#ready + 1] = base .. 'ready:' .. prio .. ':' .. lane
    end
    lanes[#lanes + 1] = turns
  end
  return ready, lanes
end

-- The sorted sets of jobs that were set aside, one for each requirement.
local function set_aside_keys(base)
  local keys = {}
  for n, requirement in ipairs(redis.call('SMEMBERS', base .. 'unknown')) do
    keys[n] = base .. 'unknown:' .. requirement
  end
  return keys
end

-- Removes the keys of several arrays, 4,000 at a time.
local function remove_keys(...)
  for _, keys in ipairs({...}) do
    for i = 1, #keys, 4000 do redis.call('UNLINK', unpack(keys, i, math.min(i + 3999, #keys))) end
  end
end
