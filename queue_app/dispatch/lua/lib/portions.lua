--[[ portions: calls commands with many values. A script's stack holds some 8,000 values. ]]

-- Calls `command` with `key` and the values, 4,000 at a time. Returns the last answer, and the sum of the answers.
local function in_portions(values, command, key)
  local last, sum = 0, 0
  for i = 1, #values, 4000 do
    last = redis.call(command, key, unpack(values, i, math.min(i + 3999, #values)))
    sum = sum + last
  end
  return last, sum
end
