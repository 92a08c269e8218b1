--[[ tombstone: remembers which ids were cancelled or withdrawn lately. ]]

-- A function that says of an id when it was withdrawn (epoch seconds, as text), or nothing. A queue mostly has no
-- tombstones: this is asked once, before the first id.
local function tombstones(key)
  local any
  return function(id)
    if any == nil then any = redis.call('EXISTS', key) == 1 end
    return any and redis.call('ZSCORE', key, id)
  end
end
