--[[ pause: stop the claims of a queue, or resume them.

Uses  full bell
KEYS  1 {q}:paused  2 {q}:bell
ARGV  1 "1" to pause, "0" to resume
Out   1 if that changed something, else 0
]]
allow_when_full()
if ARGV[1] == '1' then
  if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
  redis.call('SET', KEYS[1], '1')
  return 1
end
local was = redis.call('DEL', KEYS[1])
ring(KEYS[2], 1)
return was
