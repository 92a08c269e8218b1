--[[ find: who holds these jobs; on request, take those that wait out of the queue in the same step.

KEYS  1 {q}:body  2… {q}:held:<holder>
ARGV  1 "1" to withdraw waiting ones   2… ids
Out   for each id: n > 0, held by the n-th holder; 0, it waited (and was withdrawn, if asked); -1, unknown here
]]
local out = {}
for i = 2, #ARGV do
  local id, found = ARGV[i], -1
  if redis.call('HEXISTS', KEYS[1], id) == 1 then
    found = 0
    if ARGV[1] == '1' then redis.call('HDEL', KEYS[1], id) end
  else
    for k = 2, #KEYS do
      if redis.call('HEXISTS', KEYS[k], id) == 1 then found = k - 1; break end
    end
  end
  out[#out + 1] = found
end
return out
