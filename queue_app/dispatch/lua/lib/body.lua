--[[ body: reads the values of the hash `body`.

A value is the body of a job that waits, '<prio>:<lane>|…', or '@<holder>' for a job that a child holds.
]]
local byte = string.byte

local function is_held(value) return byte(value) == 64 end  -- 64 is '@'

-- The value for a job that this child holds.
local function value_of_holder(holder) return '@' .. holder end

local function holder_of(value) return string.sub(value, 2) end

-- Whether the child that this value names has the job. Redis may have lost that child's hash.
local function is_held_indeed(base, value, id)
  return is_held(value) and redis.call('HEXISTS', base .. 'held:' .. holder_of(value), id) == 1
end

-- '<prio>' and '<lane>' of a body, or of the part before its '|'.
local function route_of(body) return string.match(body, '^([^:]*):([^|]*)') end
