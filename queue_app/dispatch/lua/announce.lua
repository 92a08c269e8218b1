--[[ announce: a worker has announced what it runs, in the epoch of this name. See epochs.py.

Uses  full
KEYS  1 {s}:epoch  2 {s}:announced
ARGV  1 the name of the epoch   2 the worker
Out   1 when that was noted; 0 when there is another epoch by now

Also noted once claims go on: what a living worker runs is in doubt until then.
]]
allow_when_full()
local epoch = redis.call('GET', KEYS[1]) or ''
if string.match(epoch, '^[^|]*|([^|]*)|') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])
return 1
