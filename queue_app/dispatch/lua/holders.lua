--[[ holders: list the children that may hold jobs, of many queues.

KEYS  1 … {q}:holders
ARGV  1 unused
Out   how many of the queues were looked at; then for each queue that has any: its place among the keys, then an array of
      their names

It stops after some thousand names. The caller asks again for the rest.
]]
local out, left = {#KEYS}, 20000
for n, key in ipairs(KEYS) do
  local names = redis.call('SMEMBERS', key)
  if #names > 0 then
    out[#out + 1] = n
    out[#out + 1] = names
    left = left - #names
    if left <= 0 then
      out[1] = n
      break
    end
  end
end
return out
