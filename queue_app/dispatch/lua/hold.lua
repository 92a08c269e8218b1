--[[ hold: a living child's running jobs are announced again after Redis lost its data.

KEYS  1 {q}:body  2 {q}:held:<holder>  3 {q}:holders
ARGV  1 holder   2 claimed at (epoch milliseconds)
      3 then, for each job, two values: id, body
Out   how many were announced; those that another child has got meanwhile are not
]]
local prefix = string.sub(KEYS[2], 1, #KEYS[2] - #ARGV[1])
local others, count = {}, 0
for _, name in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  if name ~= ARGV[1] then others[#others + 1] = prefix .. name end
end
for i = 3, #ARGV, 2 do
  local taken = false
  for _, held in ipairs(others) do taken = taken or redis.call('HEXISTS', held, ARGV[i]) == 1 end
  if not taken then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[2] .. '|' .. ARGV[i + 1])
    redis.call('HDEL', KEYS[1], ARGV[i])
    count = count + 1
  end
end
if count > 0 then redis.call('SADD', KEYS[3], ARGV[1]) end
return count
