--[[ note: list queues by name.

Uses  full
KEYS  1 {jq}:queues
ARGV  1 … names
Out   how many were not listed
]]
allow_when_full()
local count = 0
for i = 1, #ARGV, 4000 do
  count = count + redis.call('SADD', KEYS[1], unpack(ARGV, i, math.min(i + 3999, #ARGV)))
end
return count
