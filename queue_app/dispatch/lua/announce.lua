--[[ announce: record that a worker has announced what it runs, in the epoch of this name. See epochs.py.

Uses  full epoch_name
KEYS  1 {s}:epoch  2 {s}:announced
ARGV  1 the name of the epoch   2 the worker
Out   1 when that was recorded; 0 when the epoch has another name by now

It is recorded after claims go on as well. Until then it is not known what a living worker runs.
]]
allow_when_full()
if name_of_epoch(redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[1])
return 1
