--[[ time: reads the clock of Redis. ]]

-- Epoch seconds, as text.
local function time_of_redis()
  local t = redis.call('TIME')
  return t[1] .. '.' .. string.format('%06d', t[2])
end

-- Epoch microseconds, as a number: exact until the year 2255.
local function microseconds_of_redis()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end
