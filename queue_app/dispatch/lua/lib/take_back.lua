--[[ take_back: takes back jobs that a child holds and has not started. ]]

-- Gives the job its body back. Returns the body, or nil if the child does not hold the job. If the job was cancelled, Redis
-- forgets it and the answer is nil: the duty `cancel` ends its row.
local function take_back(id, body_key, held_key, tombstone_of)
  local held = redis.call('HGET', held_key, id)
  if not held then return nil end
  redis.call('HDEL', held_key, id)
  if tombstone_of(id) then
    redis.call('HDEL', body_key, id)
    return nil
  end
  local body = string.sub(held, string.find(held, '|', 1, true) + 1)
  redis.call('HSET', body_key, id, body)
  return body
end
