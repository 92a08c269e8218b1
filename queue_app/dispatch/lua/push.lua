--[[ push: put jobs into a queue, ready or due. Idempotent: an id whose body waits already is left alone.

KEYS  1 {q}:body  2 {q}:levels  3 {q}:due  4 {q}:bell  5 {q}:cancelled
ARGV  1 base "{q}:"
      2 then, for each job, three values: id, at (epoch seconds; "0" = now), body ("<prio>:<lane>|…")
Out   how many were new

The caller sees to it that no child holds these ids (they are new, or were just taken back), or uses `restore`.
]]
local base = ARGV[1]
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local added, ready, sooner = 0, 0, false
local lists, order = {}, {}  -- list key → ids, in order
local withdrawn = redis.call('EXISTS', KEYS[5]) == 1
local head = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
for first = 2, #ARGV, 6000 do
  -- In portions: a script's stack holds some 8,000 values.
  local last = math.min(first + 5999, #ARGV)
  local ids, new = {}, {}
  for i = first, last, 3 do ids[#ids + 1] = ARGV[i] end
  local there = redis.call('HMGET', KEYS[1], unpack(ids))
  local seen = {}
  for n, id in ipairs(ids) do
    -- One that was cancelled between its commit and this push stays out.
    if not there[n] and not seen[id] and not (withdrawn and redis.call('ZSCORE', KEYS[5], id)) then
      seen[id] = true
      local i = first + 3 * (n - 1)
      local at, body = ARGV[i + 1], ARGV[i + 2]
      added = added + 1
      new[#new + 1] = id
      new[#new + 1] = body
      if at ~= '0' and tonumber(at) > now then
        redis.call('ZADD', KEYS[3], at, id)
        if not head or tonumber(at) < tonumber(head) then head = at; sooner = true end
      else
        local list = string.sub(body, 1, string.find(body, '|', 1, true) - 1)
        local batch = lists[list]
        if not batch then batch = {}; lists[list] = batch; order[#order + 1] = list end
        batch[#batch + 1] = id
        ready = ready + 1
      end
    end
  end
  if #new > 0 then redis.call('HSET', KEYS[1], unpack(new)) end
end
for _, list in ipairs(order) do
  local key, batch = base .. 'ready:' .. list, lists[list]
  local before = redis.call('EXISTS', key)
  for i = 1, #batch, 4000 do
    redis.call('RPUSH', key, unpack(batch, i, math.min(i + 3999, #batch)))
  end
  if before == 0 then
    local prio, lane = string.match(list, '^([^:]*):(.*)$')
    redis.call('RPUSH', base .. 'lanes:' .. prio, lane)
    redis.call('ZADD', KEYS[2], prio, prio)
  end
end
if ready > 0 or sooner then
  -- A few tokens wake a few children; each that leaves work behind rings for the next (claim.lua).
  local rung = redis.call('LLEN', KEYS[4])
  for _ = rung + 1, math.min(math.max(ready, 1), 8) do redis.call('LPUSH', KEYS[4], '1') end
end
return added
