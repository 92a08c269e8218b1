--[[ holders: which children may hold jobs, of many queues.

KEYS  1 … {q}:holders
ARGV  1 unused
Out   for each queue that has any: its place among the keys, then their names as an array
]]
local out = {}
for n, key in ipairs(KEYS) do
  local names = redis.call('SMEMBERS', key)
  if #names > 0 then
    out[#out + 1] = n
    out[#out + 1] = names
  end
end
return out
