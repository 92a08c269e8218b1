--[[ lane: puts jobs into lanes, where claims find them.

Uses  body bell portions
]]

-- A lane that was empty gets its turn again; its priority is listed. `push` is 'RPUSH', or 'LPUSH' for the next turn.
local function open_lane(base, levels, prio, lane, push)
  redis.call(push, base .. 'lanes:' .. prio, lane)
  redis.call('ZADD', levels, prio, prio)
end

-- Adds one id to the end of its lane, or to the front.
local function add_to_lane(base, levels, body, id, front)
  local prio, lane = route_of(body)
  local push = front and 'LPUSH' or 'RPUSH'
  if redis.call(push, base .. 'ready:' .. prio .. ':' .. lane, id) == 1 then open_lane(base, levels, prio, lane, push) end
end

-- Removes one id from its lane, at any place: O(length of the lane), so for rare cases only.
local function remove_from_lane(base, body, id)
  local prio, lane = route_of(body)
  local list = base .. 'ready:' .. prio .. ':' .. lane
  if redis.call('LREM', list, 0, id) > 0 and redis.call('EXISTS', list) == 0 then
    redis.call('LREM', base .. 'lanes:' .. prio, 0, lane)
  end
end

-- Adds many new jobs, ready or due, and rings the bell. `chosen` has the places of their ids in ARGV. Each id is followed
-- there by the time and the body.
local function add_jobs(base, body_key, levels, due, bell, chosen, now)
  local ready, sooner, head = 0, 0, nil
  local lists, order, fields = {}, {}, {}
  for n = 1, #chosen do
    local i = chosen[n]
    local id, at, body = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    fields[2 * n - 1], fields[2 * n] = id, body
    if at ~= '0' and tonumber(at) > now then
      head = head or tonumber(redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2] or 'inf') or math.huge
      redis.call('ZADD', due, at, id)
      if tonumber(at) < head then head, sooner = tonumber(at), 1 end
    else
      local route = string.sub(body, 1, string.find(body, '|', 1, true) - 1)
      local batch = lists[route]
      if not batch then batch = {}; lists[route] = batch; order[#order + 1] = route end
      batch[#batch + 1] = id
      ready = ready + 1
    end
  end
  in_portions(fields, 'HSET', body_key)
  for _, route in ipairs(order) do
    local batch = lists[route]
    if in_portions(batch, 'RPUSH', base .. 'ready:' .. route) == #batch then  -- the lane was empty
      local prio, lane = route_of(route)
      open_lane(base, levels, prio, lane, 'RPUSH')
    end
  end
  if ready > 0 or sooner > 0 then ring(bell, math.max(ready, sooner)) end
end
