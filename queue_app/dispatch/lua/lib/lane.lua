--[[ lane: puts jobs where claims find them, and wakes children. ]]

-- '<prio>' and '<lane>' of a body or of the part before its '|'.
local function route_of(body) return string.match(body, '^([^:]*):([^|]*)') end

-- Adds one id to the end of its lane, or to the front.
local function add_to_lane(base, levels, body, id, front)
  local prio, lane = route_of(body)
  local push = front and 'LPUSH' or 'RPUSH'
  if redis.call(push, base .. 'ready:' .. prio .. ':' .. lane, id) == 1 then
    redis.call(push, base .. 'lanes:' .. prio, lane)
    redis.call('ZADD', levels, prio, prio)
  end
end

-- A few tokens wake a few children; each that leaves work behind rings for the next (claim.lua).
local function ring(bell, count)
  for _ = redis.call('LLEN', bell) + 1, math.min(count, 8) do redis.call('LPUSH', bell, '1') end
end

-- Adds many jobs, ready or due. `jobs` is {id, at, body, id, at, body …}; all are new. Rings the bell.
local function add_jobs(base, keys, jobs, now)
  local ready, sooner = 0, 0
  local lists, order, entries = {}, {}, {}
  local head = redis.call('ZRANGE', keys.due, 0, 0, 'WITHSCORES')[2]
  for i = 1, #jobs, 3 do
    local id, at, body = jobs[i], jobs[i + 1], jobs[i + 2]
    entries[#entries + 1] = id
    entries[#entries + 1] = body
    if at ~= '0' and tonumber(at) > now then
      redis.call('ZADD', keys.due, at, id)
      if not head or tonumber(at) < tonumber(head) then head = at; sooner = 1 end
    else
      local list = string.sub(body, 1, string.find(body, '|', 1, true) - 1)
      local batch = lists[list]
      if not batch then batch = {}; lists[list] = batch; order[#order + 1] = list end
      batch[#batch + 1] = id
      ready = ready + 1
    end
  end
  -- In portions: a script's stack holds some 8,000 values.
  for i = 1, #entries, 4000 do
    redis.call('HSET', keys.body, unpack(entries, i, math.min(i + 3999, #entries)))
  end
  for _, list in ipairs(order) do
    local key, batch = base .. 'ready:' .. list, lists[list]
    local before = redis.call('EXISTS', key)
    for i = 1, #batch, 4000 do
      redis.call('RPUSH', key, unpack(batch, i, math.min(i + 3999, #batch)))
    end
    if before == 0 then
      local prio, lane = route_of(list)
      redis.call('RPUSH', base .. 'lanes:' .. prio, lane)
      redis.call('ZADD', keys.levels, prio, prio)
    end
  end
  if ready > 0 or sooner > 0 then ring(keys.bell, math.max(ready, sooner)) end
end
