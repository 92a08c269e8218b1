--[[ lead: be the leader, or stay it, and learn the fencing token of this leadership and the epoch of the data.

KEYS  1 {jq}:leader  2 {jq}:fence  3 {jq}:epoch
ARGV  1 who wants to lead
      2 for how long from now, in milliseconds; "0" to resign
      3 the token of the leadership to go on with, or "" to take a new one if nobody leads
Out   {token, epoch}; the token is 0 when somebody else leads, or when the leadership of this token is over; the epoch is
      "" after Redis lost its data

A leadership that lapsed is over, even if nobody has taken it since: whoever holds its token stops, and takes a new one.
Without a token, one's own leadership is taken anew as well: it is of a process that has died.
]]
local held = redis.call('GET', KEYS[1])
if ARGV[3] ~= '' then
  if held ~= ARGV[1] .. '|' .. ARGV[3] then return {0, ''} end
  if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return {tonumber(ARGV[3]), redis.call('GET', KEYS[3]) or ''}
end
if held and string.match(held, '^(.*)|') ~= ARGV[1] then return {0, ''} end
local token = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], ARGV[1] .. '|' .. string.format('%.0f', token), 'PX', ARGV[2])
return {token, redis.call('GET', KEYS[3]) or ''}
