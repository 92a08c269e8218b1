--[[ bind: let an epoch whose writes are counted name the life of its server from now on. See epochs.py.

Uses  full life
KEYS  1 {s}:epoch
ARGV  1 what the caller knows of the server's life   2 the name of the epoch   3 the life
Out   1, or 0 when this is not that server, or the epoch is another one or has a life
]]
allow_when_full()
local epoch = redis.call('GET', KEYS[1]) or ''
if string.match(ARGV[1], '^[^|]*') ~= ARGV[3] or string.match(epoch, '^%-|([^|]*)|') ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[3] .. string.sub(epoch, 2))
redis.call('DEL', KEYS[1] .. ':count')
return 1
