--[[ bind: give an epoch whose writes are counted the life of its server. See epochs.py.

Uses  full life epoch_name
KEYS  1 {s}:epoch
ARGV  1 what the caller knows of the server's life   2 the name of the epoch   3 the life
Out   1; 0 when the caller is connected to another server, or the epoch has another name or has a life already
]]
allow_when_full()
local epoch = redis.call('GET', KEYS[1]) or ''
if string.match(ARGV[1], '^[^|]*') ~= ARGV[3] then return 0 end
if string.sub(epoch, 1, 2) ~= '-|' or name_of_epoch(epoch) ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3] .. string.sub(epoch, 2))
redis.call('DEL', KEYS[1] .. ':count')
return 1
