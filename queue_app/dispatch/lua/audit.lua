--[[ audit: count what a queue holds, and what of it can be reached.

KEYS  1 {q}:body  2 {q}:levels  3 {q}:due  4 {q}:holders  5 {q}:unknown
ARGV  1 base "{q}:"
Out   { jobs that Redis knows, held, due later, set aside, ids in lanes }

A lane may also have ids of cancelled jobs. So a job is lost from its lane if more wait than can be reached.
]]
local base = ARGV[1]
local held, aside, listed = 0, 0, 0
for _, name in ipairs(redis.call('SMEMBERS', KEYS[4])) do held = held + redis.call('HLEN', base .. 'held:' .. name) end
for _, need in ipairs(redis.call('SMEMBERS', KEYS[5])) do aside = aside + redis.call('ZCARD', base .. 'unknown:' .. need) end
for _, prio in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  for _, lane in ipairs(redis.call('LRANGE', base .. 'lanes:' .. prio, 0, -1)) do
    listed = listed + redis.call('LLEN', base .. 'ready:' .. prio .. ':' .. lane)
  end
end
return {redis.call('HLEN', KEYS[1]), held, redis.call('ZCARD', KEYS[3]), aside, listed}
