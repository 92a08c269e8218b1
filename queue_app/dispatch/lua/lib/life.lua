--[[ life: tells whether the data are of this life of the server. See epochs.py.

Uses  epoch_name

KEYS[1] is the epoch of the shard: '<life>|<name>|<begun>|<phase>'; begun is in seconds, by the clock of Redis. ARGV[1] is
what the caller knows: '<run_id>|<counted>|<clock>'.
Where the server's run_id cannot be used, life is '-', and each write is counted instead. The caller has then seen
'<name> <count>', or nothing. In the epoch of this name the count never falls below that. Each epoch begins to count anew.
]]
local LOST = 'LOST Redis has lost its data or gone back in time'

local counted = ''  -- '<name> <count>' after this write, where writes are counted

-- Whether the data are of this life. The second value is false if the caller cannot tell.
local function is_of_this_life(epoch)
  if not epoch then return false, true end
  local life = string.match(ARGV[1], '^[^|]*|')
  if string.sub(epoch, 1, #life) == life then return true, true end
  if string.sub(epoch, 1, 1) ~= '-' then return life == '|', life ~= '|' end
  local count, name = KEYS[1] .. ':count', name_of_epoch(epoch)
  local of, least = string.match(ARGV[1], '|(%S+) (%d+)|')
  if of == name and tonumber(redis.call('GET', count) or 0) < tonumber(least) then
    redis.call('DEL', KEYS[1])  -- this caller has proof of a loss; other callers may have seen lower counts
    return false, true
  end
  counted = name .. ' ' .. string.format('%.0f', redis.call('INCR', count))
  return true, true
end

-- Counts this write, where writes are counted.
local function count_write()
  local epoch = redis.call('GET', KEYS[1])
  if epoch and string.sub(epoch, 1, 1) == '-' then redis.call('INCR', KEYS[1] .. ':count') end
end

-- An error unless the data are of this life.
local function refuse_if_stale(epoch)
  if not is_of_this_life(epoch) then return redis.error_reply(LOST) end
end

-- An error unless jobs may be claimed: the data are of this life, and living workers have announced what they run.
local function refuse_if_lost(must_be_certain)
  local epoch = redis.call('GET', KEYS[1])
  local current, certain = is_of_this_life(epoch)
  if not current or string.sub(epoch, -7) == '|closed' or (must_be_certain and not certain) then
    return redis.error_reply(LOST)
  end
end
