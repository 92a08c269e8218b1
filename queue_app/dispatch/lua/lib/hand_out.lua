--[[ hand_out: hands waiting jobs to one child.

Uses  body
]]

-- Moves those of these ids that wait from `body` to the child's `held`. Their values in `body` name the child from then on.
-- Adds id and body of each to `out`. Skips ids without a body, which were cancelled, and ids that are held already.
-- `handed` has the ids that this call has handed out. Returns how many were handed out.
local function hand_out(ids, body_key, held_key, holders_key, holder, stamp, handed, out)
  local bodies = redis.call('HMGET', body_key, unpack(ids))
  local mine = value_of_holder(holder)
  local owners, hold = {}, {}
  for i, id in ipairs(ids) do
    local body = bodies[i]
    if body and not handed[id] and not is_held(body) then
      handed[id] = true
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

-- The part of a value of `held` before the body: when the job was handed out, epoch milliseconds.
local function stamp_of(now) return string.format('%.0f', tonumber(now) * 1000) .. '|' end
