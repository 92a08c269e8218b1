--[[ give: hands jobs that wait to one child. ]]

-- Of these ids, those that wait move from `body` to the child's `held`; their entries in `body` name it from then on. Id
-- and body of each are added to `out`. Skipped are ids without a body, which were cancelled, and those that
-- are held already. `seen` has what this call has handed out. Returns how many were handed out. Needs `entry`.
local function give(ids, body_key, held_key, holders_key, holder, stamp, seen, out)
  local bodies = redis.call('HMGET', body_key, unpack(ids))
  local mine = '@' .. holder
  local owners, hold = {}, {}
  for i, id in ipairs(ids) do
    local body = bodies[i]
    if body and not seen[id] and not is_held(body) then
      seen[id] = true
      owners[#owners + 1] = id
      owners[#owners + 1] = mine
      hold[#hold + 1] = id
      hold[#hold + 1] = stamp .. body
      out[#out + 1] = id
      out[#out + 1] = body
    end
  end
  if #owners > 0 then
    redis.call('SADD', holders_key, holder)
    redis.call('HSET', body_key, unpack(owners))
    redis.call('HSET', held_key, unpack(hold))
  end
  return #owners / 2
end

-- What `held` has before a body: when the job was handed out, epoch milliseconds.
local function stamp_of(now) return string.format('%.0f', tonumber(now) * 1000) .. '|' end
