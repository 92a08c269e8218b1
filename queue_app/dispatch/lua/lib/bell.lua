--[[ bell: wakes children that wait for jobs. ]]

-- Makes sure that the bell has `count` tokens, at most 8. A child that leaves work behind rings for the next (claim.lua).
local function ring(bell, count)
  for _ = redis.call('LLEN', bell) + 1, math.min(count, 8) do redis.call('LPUSH', bell, '1') end
end
