--[[ counts: count what Redis has of many queues.

Uses  contents
KEYS  1 … {q}:body
ARGV  1 unused
Out   how many of the queues were looked at; then for each queue that is not empty: its place among the keys, then an
      array: ids that Redis knows; of these held by children, due later, set aside; ids in lanes; then pairs: a state of
      attempts and how many ended in it; "run_ms" and the milliseconds that they ran

It stops after some thousand look-ups, as a queue may have many children and lanes. The caller asks again for the rest.
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
  for _, set in ipairs(set_aside_keys(base)) do aside = aside + redis.call('ZCARD', set) end
  local ready = lane_keys(base)
  left = left - #ready
  for _, list in ipairs(ready) do listed = listed + redis.call('LLEN', list) end
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
