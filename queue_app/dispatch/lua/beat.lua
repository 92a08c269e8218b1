--[[ beat: list a worker, or renew its heartbeat. The heartbeat is the lease of all jobs that its children hold.

Uses  full time
KEYS  1 {jq}:workers  2 {jq}:queues
ARGV  1 worker id   2 "1" to renew, "0" to list it only if it is not listed yet   3… queues that it serves
Out   nothing
]]
allow_when_full()
local queues = {unpack(ARGV, 3)}
local command = ARGV[2] == '1' and 'HSET' or 'HSETNX'
redis.call(command, KEYS[1], ARGV[1], time_of_redis() .. '|' .. table.concat(queues, ','))
if #queues > 0 then redis.call('SADD', KEYS[2], unpack(queues)) end
