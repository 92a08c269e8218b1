--[[ full: lets a script work when Redis is at its maxmemory.

Redis then refuses commands that need memory, unless the script has made a write before that needs none. PERSIST is such
a write. It changes nothing, as KEYS[1] never expires.
]]
local function allow_when_full() redis.call('PERSIST', KEYS[1]) end
