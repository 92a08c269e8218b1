--[[ give_back: return claimed jobs that have not been started to the front of their lanes, in the order given.

Uses  full life fence entry lane
KEYS  1 {s}:epoch  2 {q}:body  3 {q}:levels  4 {q}:bell  5 {q}:held:<holder>  6 {q}:fence:<holder>
ARGV  1 what the caller knows of the server's life   2 base "{q}:"   3 fence of the caller   4… ids, first one first to run
Out   an error when the fence stands higher; else how many were given back (ids that this child no longer holds are
      skipped, and those that were cancelled are only let go of: their rows are ended by the duty `cancel`)
]]
allow_when_full()
local refused = refuse_if_fenced(KEYS[6], ARGV[3])
if refused then return refused end
count_write()
local base, count = ARGV[2], 0
local marked = redis.call('EXISTS', base .. 'cancelled') == 1
for i = #ARGV, 4, -1 do
  local id = ARGV[i]
  local held = redis.call('HGET', KEYS[5], id)
  if held then
    redis.call('HDEL', KEYS[5], id)
    if marked and redis.call('ZSCORE', base .. 'cancelled', id) then
      redis.call('HDEL', KEYS[2], id)
    else
      local body = string.sub(held, string.find(held, '|', 1, true) + 1)
      redis.call('HSET', KEYS[2], id, body)
      add_to_lane(base, KEYS[3], body, id, true)
      count = count + 1
    end
  end
end
ring(KEYS[4], count)
return count
