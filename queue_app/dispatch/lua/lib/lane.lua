--[[ lane: puts jobs where claims find them, and wakes children. ]]

-- Adds one id to the end of its lane, or to the front.
local function add_to_lane(base, levels, body, id, front)
  local prio, lane = route_of(body)
  local push = front and 'LPUSH' or 'RPUSH'
  if redis.call(push, base .. 'ready:' .. prio .. ':' .. lane, id) == 1 then
    redis.call(push, base .. 'lanes:' .. prio, lane)
    redis.call('ZADD', levels, prio, prio)
  end
end

-- Takes one id out of its lane, wherever it is in it: O(length), for what happens rarely. Needs `entry`.
local function remove_from_lane(base, body, id)
  local prio, lane = route_of(body)
  local list = base .. 'ready:' .. prio .. ':' .. lane
  if redis.call('LREM', list, 0, id) > 0 and redis.call('EXISTS', list) == 0 then
    redis.call('LREM', base .. 'lanes:' .. prio, 0, lane)
  end
end

-- A few tokens wake a few children; each that leaves work behind rings for the next (claim.lua).
local function ring(bell, count)
  for _ = redis.call('LLEN', bell) + 1, math.min(count, 8) do redis.call('LPUSH', bell, '1') end
end

-- Adds many jobs, ready or due, and rings the bell. `chosen` has the places in ARGV of their ids, each followed by the
-- time and the body. All of them are new.
local function add_jobs(base, body_key, levels, due, bell, chosen, now)
  local ready, sooner, head = 0, 0, nil
  local lists, order, entries = {}, {}, {}
  for n = 1, #chosen do
    local i = chosen[n]
    local id, at, body = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    entries[2 * n - 1], entries[2 * n] = id, body
    if at ~= '0' and tonumber(at) > now then
      head = head or tonumber(redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2] or 'inf') or math.huge
      redis.call('ZADD', due, at, id)
      if tonumber(at) < head then head, sooner = tonumber(at), 1 end
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
    redis.call('HSET', body_key, unpack(entries, i, math.min(i + 3999, #entries)))
  end
  for _, list in ipairs(order) do
    local batch, length = lists[list], 0
    for i = 1, #batch, 4000 do
      length = redis.call('RPUSH', base .. 'ready:' .. list, unpack(batch, i, math.min(i + 3999, #batch)))
    end
    if length == #batch then  -- the lane was empty
      local prio, lane = route_of(list)
      redis.call('RPUSH', base .. 'lanes:' .. prio, lane)
      redis.call('ZADD', levels, prio, prio)
    end
  end
  if ready > 0 or sooner > 0 then ring(bell, math.max(ready, sooner)) end
end
