--[[ find: who holds these jobs; on request, take those that no child holds out of the queue in the same step.

KEYS  1 {q}:body  2 {q}:holders  3 {q}:cancelled
ARGV  1 base "{q}:"   2 "1" to withdraw, "2" to mark those that are held as well, "0" to do nothing   3… ids
Out   for each id: "<claimed at, epoch ms>|<name of its holder>"; "+" when it waits (or waited, until it was withdrawn); "-" when unknown here

A withdrawn id is remembered for ten minutes, so that a push that is under way cannot bring it back; one that is held
and marked, so that it is not queued again when its child lets go of it.
]]
local base, withdraw, mark = ARGV[1], ARGV[2] ~= '0', ARGV[2] == '2'
local names = redis.call('SMEMBERS', KEYS[2])
local now = tonumber(redis.call('TIME')[1])
local aside = withdraw and redis.call('SMEMBERS', base .. 'unknown') or {}
local out = {}
for i = 3, #ARGV do
  local id, found = ARGV[i], '-'
  if redis.call('HEXISTS', KEYS[1], id) == 1 then
    found = '+'
    if withdraw then
      redis.call('HDEL', KEYS[1], id)
      redis.call('ZREM', base .. 'due', id)
      for _, need in ipairs(aside) do redis.call('ZREM', base .. 'unknown:' .. need, id) end
    end
  else
    for _, name in ipairs(names) do
      local held = redis.call('HGET', base .. 'held:' .. name, id)
      if held then found = string.match(held, '^%d+|') .. name; break end
    end
  end
  if mark or (withdraw and (found == '+' or found == '-')) then redis.call('ZADD', KEYS[3], now, id) end
  out[#out + 1] = found
end
for _, need in ipairs(aside) do
  if redis.call('EXISTS', base .. 'unknown:' .. need) == 0 then redis.call('SREM', base .. 'unknown', need) end
end
if withdraw then redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - 600) end
return out
