--[[ figures: what there is of many queues.

KEYS  1 … {q}:body
ARGV  1 unused
Out   how many of the queues were looked at; then for each queue of which anything is known: its place among the keys, then an array: ids that Redis knows; of these
      held by children, due later, set aside; ids in lanes; then for each state of attempts: state, how many ended so
      (and "run_ms", …)

It stops after some thousand look-ups, as a queue may have many children and lanes.
]]
local out, left = {#KEYS}, 5000
for n, key in ipairs(KEYS) do
  local base = string.sub(key, 1, -5)
  local held, aside, listed = 0, 0, 0
  local holders = redis.call('SMEMBERS', base .. 'holders')
  left = left - 6 - #holders
  for _, name in ipairs(holders) do
    held = held + redis.call('HLEN', base .. 'held:' .. name)
  end
  for _, need in ipairs(redis.call('SMEMBERS', base .. 'unknown')) do
    aside = aside + redis.call('ZCARD', base .. 'unknown:' .. need)
  end
  for _, prio in ipairs(redis.call('ZRANGE', base .. 'levels', 0, -1)) do
    local lanes = redis.call('LRANGE', base .. 'lanes:' .. prio, 0, -1)
    left = left - #lanes
    for _, lane in ipairs(lanes) do
      listed = listed + redis.call('LLEN', base .. 'ready:' .. prio .. ':' .. lane)
    end
  end
  local one = {redis.call('HLEN', key), held, redis.call('ZCARD', base .. 'due'), aside, listed}
  for _, word in ipairs(redis.call('HGETALL', base .. 'ended')) do one[#one + 1] = word end
  if #one > 5 or one[1] > 0 or listed > 0 then
    out[#out + 1] = n
    out[#out + 1] = one
  end
  if left <= 0 then
    out[1] = n
    break
  end
end
return out
