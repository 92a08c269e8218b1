--[[ find: say where jobs are. On request, withdraw those that no child holds in the same step.

Uses  full life time body portions
KEYS  1 {s}:epoch  2 {q}:body  3 {q}:cancelled  4 {q}:restored
ARGV  1 what the caller knows of the server's life   2 base "{q}:"   3 mode   4… ids
      mode  look      say what Redis has, of any life of the server
            check     the same, unless the data were lost
            restore   stamp the unknown ids; `restore` must present that stamp
            withdraw  remove the jobs that no child holds
            cancel    withdraw, and leave a tombstone for held jobs as well
Out   an error when the data were lost (modes check, restore, withdraw); else the stamp ("" in other modes), then for
      each id: "<claimed at, epoch ms>|<name of its holder>"; "+" when it waits (or waited, until it was withdrawn); "-"
      when it is unknown

A withdrawn id has a tombstone for ten minutes, so that a push that is under way cannot bring it back. The tombstone of a
held job keeps it from being queued again when its child lets go of it.
]]
local base, mode = ARGV[2], ARGV[3]
local cancel = mode == 'cancel'
local withdraw = cancel or mode == 'withdraw'
if withdraw then allow_when_full() end
if mode ~= 'look' and not cancel then
  local refused = refuse_if_lost(withdraw)
  if refused then return refused end
end
local micros = microseconds_of_redis()
local now = math.floor(micros / 1000000)
local stamp = mode == 'restore' and string.format('%.0f', micros) or ''
local aside = withdraw and redis.call('SMEMBERS', base .. 'unknown') or {}
local out, stamped = {stamp}, {}
for first = 4, #ARGV, 6000 do
  local ids = {unpack(ARGV, first, math.min(first + 5999, #ARGV))}
  local there = redis.call('HMGET', KEYS[2], unpack(ids))
  for n, id in ipairs(ids) do
    local value, found = there[n], '-'
    if value and is_held(value) then
      local holder = holder_of(value)
      local held = redis.call('HGET', base .. 'held:' .. holder, id)
      if held then
        found = string.match(held, '^%d+|') .. holder
      elseif withdraw then
        redis.call('HDEL', KEYS[2], id)  -- Redis has lost that child's hash
      end
    elseif value then
      found = '+'
      if withdraw then
        redis.call('HDEL', KEYS[2], id)
        redis.call('ZREM', base .. 'due', id)
        for _, requirement in ipairs(aside) do redis.call('ZREM', base .. 'unknown:' .. requirement, id) end
      end
    end
    if cancel or (withdraw and (found == '+' or found == '-')) then redis.call('ZADD', KEYS[3], now, id) end
    if stamp ~= '' and found == '-' then
      stamped[#stamped + 1] = stamp
      stamped[#stamped + 1] = id
    end
    out[#out + 1] = found
  end
end
for _, requirement in ipairs(aside) do
  if redis.call('EXISTS', base .. 'unknown:' .. requirement) == 0 then
    redis.call('SREM', base .. 'unknown', requirement)
  end
end
if withdraw then redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - 600) end
if stamp ~= '' then
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', (now - 60) * 1000000)
  in_portions(stamped, 'ZADD', KEYS[4])
  redis.call('EXPIRE', KEYS[4], 120)
end
return out
