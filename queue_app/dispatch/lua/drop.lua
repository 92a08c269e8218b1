--[[ drop: remove what is stale of a queue, after Redis lost its data or went back in time.

Uses  full life
KEYS  1 {s}:epoch
ARGV  1 what the caller knows of the server's life   2 base "{q}:"   3… other keys of the queue, which nothing leads to
Out   how many jobs there were; -1 when the data are of this life: they are not stale, and nothing is removed

Kept are tombstones of cancelled jobs, fences and pauses. Ids that stay behind in a list that is not found here find no
body when they are popped.
]]
local current, certain = is_of_this_life(redis.call('GET', KEYS[1]))
if current or not certain then return -1 end
local base = ARGV[2]
local count = redis.call('HLEN', base .. 'body')
local gone = {unpack(ARGV, 3)}
for _, prio in ipairs(redis.call('ZRANGE', base .. 'levels', 0, -1)) do
  for _, lane in ipairs(redis.call('LRANGE', base .. 'lanes:' .. prio, 0, -1)) do
    gone[#gone + 1] = base .. 'ready:' .. prio .. ':' .. lane
  end
  gone[#gone + 1] = base .. 'lanes:' .. prio
end
for _, name in ipairs(redis.call('SMEMBERS', base .. 'holders')) do gone[#gone + 1] = base .. 'held:' .. name end
for _, need in ipairs(redis.call('SMEMBERS', base .. 'unknown')) do gone[#gone + 1] = base .. 'unknown:' .. need end
for _, name in ipairs({'body', 'levels', 'due', 'holders', 'unknown', 'restored', 'bell', 'ended'}) do
  gone[#gone + 1] = base .. name
end
for i = 1, #gone, 4000 do redis.call('UNLINK', unpack(gone, i, math.min(i + 3999, #gone))) end
return count
