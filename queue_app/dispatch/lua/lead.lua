--[[ lead: begin to lead the maintenance duties, go on leading, or resign.

Uses  full
KEYS  1 {jq}:leader
ARGV  1 who wants to lead   2 for how long from now, in milliseconds; "0" to resign   3 the token of the leadership
      4 "1" to begin this leadership, "0" to go on with it
Out   1; 0 when another process leads or the leadership of this token is over

A leadership that lapsed is over, even if no other process has taken it since: the process with that token stops, and
begins again with a new one. A process may replace a leadership of its own name: an earlier process, which died, had it.
]]
local held = redis.call('GET', KEYS[1])
local mine = ARGV[1] .. '|' .. ARGV[3]
if ARGV[4] == '0' then
  if held ~= mine then return 0 end
  if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return 1
end
if held and string.match(held, '^(.*)|') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
allow_when_full()
redis.call('SET', KEYS[1], mine, 'PX', ARGV[2])
return 1
