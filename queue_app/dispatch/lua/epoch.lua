--[[ epoch: move the data of a shard from one phase to the next. See epochs.py.

Uses  full life epoch_name time
KEYS  1 {s}:epoch  2 {s}:announced
ARGV  1 what the caller knows of the server's life   2 the phase to enter   3 the name of the epoch
      4 for a new one its life, or "-"
Out   1; 0 when that is not the next phase of this epoch

closed   the stale data were dropped: an epoch of this name begins
filling  living workers have announced what they run: claims may begin
whole    all waiting jobs were put back
lost     the epoch of this name ends: part of its data is gone
]]
allow_when_full()
local epoch = redis.call('GET', KEYS[1])
local current = is_of_this_life(epoch)
local to, name = ARGV[2], ARGV[3]
if to == 'closed' then
  if current then return 0 end
  redis.call('DEL', KEYS[2], KEYS[1] .. ':count')
  redis.call('SET', KEYS[1], table.concat({ARGV[4], name, time_of_redis(), to}, '|'))
else
  if not current or name_of_epoch(epoch) ~= name then return 0 end
  local same, phase = string.match(epoch, '^(.*|)(.*)$')
  if to == 'lost' then return redis.call('DEL', KEYS[1]) end
  if to == 'filling' and phase ~= 'closed' or to == 'whole' and phase ~= 'filling' then return 0 end
  redis.call('SET', KEYS[1], same .. to)
end
return 1
