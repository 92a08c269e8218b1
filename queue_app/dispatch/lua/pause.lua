--[[ pause: stop the claims of a queue, or resume them.

Uses  full
KEYS  1 {q}:paused  2 {q}:bell
ARGV  1 "1" to pause, "0" to resume
Out   1 if that changed something
]]
allow_when_full()
if ARGV[1] == '1' then
  if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
  redis.call('SET', KEYS[1], '1')
  return 1
end
local was = redis.call('DEL', KEYS[1])
redis.call('LPUSH', KEYS[2], '1')
redis.call('LTRIM', KEYS[2], 0, 7)
return was
