--[[ hold: a living child's running jobs are announced again after Redis lost its data.

KEYS  1 {q}:body  2 {q}:held:<holder>  3 {q}:holders
ARGV  1 holder   2 claimed at (epoch milliseconds)
      3 then, for each job, two values: id, body
Out   how many were announced
]]
redis.call('SADD', KEYS[3], ARGV[1])
for i = 3, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[2] .. '|' .. ARGV[i + 1])
  redis.call('HDEL', KEYS[1], ARGV[i])
end
return (#ARGV - 2) / 2
