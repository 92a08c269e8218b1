--[[ fence: from now on, refuse calls of a child that were made before.

KEYS  1 {q}:fence:<holder>
ARGV  1 the number that the child's calls carry, "0" if unknown   2 seconds for which the fence stands
Out   the number that its next calls must carry, as text

It only grows, also when the key has expired or was lost: it is at least the time, in microseconds.
]]
local t = redis.call('TIME')
local number = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), tonumber(ARGV[1]), t[1] * 1000000 + t[2]) + 1
local text = string.format('%.0f', number)
redis.call('SET', KEYS[1], text, 'EX', ARGV[2])
return text
