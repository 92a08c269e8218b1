--[[ interrupt: ask a worker to interrupt jobs that its children hold.

Uses  full
KEYS  1 {jq}:control:<worker id>
ARGV  1 seconds for which the request is kept   2… ids
Out   nothing
]]
allow_when_full()
redis.call('RPUSH', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
