--[[ life: whether the data are those of this life of the server. See epochs.py.

KEYS[1] is the epoch of the shard: '<life>|<name>|<phase>'. ARGV[1] is what the caller knows: '<run_id>|<seen>|<clock>'.
Where the server's run_id cannot be used, life is '-', and each write is counted instead. The count may never fall below
what a caller has seen.
]]
local LOST = 'LOST Redis has lost its data or gone back in time'

-- The phase of the data, or nil if they are not of this life. The second value is false if the caller cannot tell.
local function phase_of_life()
  local epoch = redis.call('GET', KEYS[1])
  if not epoch then return nil, true end
  local life, phase = string.match(epoch, '^([^|]*)|[^|]*|(%a+)$')
  local known, seen = string.match(ARGV[1], '^([^|]*)|(%d*)')
  if life == '-' then
    local count = KEYS[1] .. ':count'
    if tonumber(redis.call('GET', count) or 0) < (tonumber(seen) or 0) then return nil, true end
    redis.call('INCR', count)
    return phase, true
  end
  if known == '' then return phase, false end
  if life ~= known then return nil, true end
  return phase, true
end

-- An error unless jobs may be taken: the data are of this life, and living workers have announced what they run.
local function refuse_if_lost(must_be_certain)
  local phase, certain = phase_of_life()
  if not phase or phase == 'closed' or (must_be_certain and not certain) then return redis.error_reply(LOST) end
end
