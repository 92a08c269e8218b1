--[[ drop: remove the stale data of a queue, after Redis lost its data or went back in time.

Uses  life contents
KEYS  1 {s}:epoch
ARGV  1 what the caller knows of the server's life   2 base "{q}:"   3… other keys of the queue, which no key leads to
Out   how many jobs there were; -1 when the data are of this life: then nothing is removed

Tombstones of cancelled jobs, fences and pauses are kept. A list that is not found here keeps its ids; a claim that pops
them finds no body.
]]
local current, certain = is_of_this_life(redis.call('GET', KEYS[1]))
if current or not certain then return -1 end
local base = ARGV[2]
local count = redis.call('HLEN', base .. 'body')
local names = {unpack(ARGV, 3)}
for _, holder in ipairs(redis.call('SMEMBERS', base .. 'holders')) do names[#names + 1] = base .. 'held:' .. holder end
for _, name in ipairs({'body', 'due', 'holders', 'restored', 'bell', 'ended'}) do names[#names + 1] = base .. name end
local ready, lanes = lane_keys(base)
remove_keys(ready, lanes, set_aside_keys(base), {base .. 'levels', base .. 'unknown'}, names)
return count
