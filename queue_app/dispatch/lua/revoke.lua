--[[ revoke: refuse the calls of a child that were made before this.

Uses  full life time
KEYS  1 {s}:epoch  2 {q}:fence:<holder>
ARGV  1 what the caller knows of the server's life   2 the number that the child's calls carry, "0" if unknown
      3 seconds for which the fence stands
Out   the number that its next calls must carry, as text

The number only grows, also when the key has expired or was lost: it is at least the time, in epoch microseconds.
]]
allow_when_full()
local number = math.max(tonumber(redis.call('GET', KEYS[2]) or 0), tonumber(ARGV[2]), microseconds_of_redis()) + 1
local text = string.format('%.0f', number)
redis.call('SET', KEYS[2], text, 'EX', ARGV[3])
return text
