--[[ full: lets a script work when Redis is at its maxmemory.

Redis then refuses commands that need memory, but not after a first write that needs none. PERSIST is one, and changes
nothing: KEYS[1] never expires.
]]
local function allow_when_full() redis.call('PERSIST', KEYS[1]) end
