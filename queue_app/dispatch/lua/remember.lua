--[[ remember: list queues by name.

Uses  full portions
KEYS  1 {jq}:queues
ARGV  1 … names
Out   how many were not listed
]]
allow_when_full()
local _, added = in_portions(ARGV, 'SADD', KEYS[1])
return added
