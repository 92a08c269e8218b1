--[[ entry: what `body` has of an id: '<prio>:<lane>|…' of a job that waits, or '@<holder>' of one that a child holds. ]]
local byte = string.byte

local function is_held(entry) return byte(entry) == 64 end  -- 64 is '@'

-- '<prio>' and '<lane>' of a body or of the part before its '|'.
local function route_of(body) return string.match(body, '^([^:]*):([^|]*)') end
