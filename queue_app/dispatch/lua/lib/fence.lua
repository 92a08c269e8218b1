--[[ fence: refuses calls of a child that were made before its calls were revoked. See holder.py.

Uses  life
]]
local function refuse_if_fenced(key, number)
  if tonumber(redis.call('GET', key) or 0) > tonumber(number) then
    return redis.error_reply('FENCED a call of this child that came too late')
  end
end

-- For calls that hand out jobs: an error if the data were lost, or the call came too late.
local function refuse_claim(key, number) return refuse_if_lost() or refuse_if_fenced(key, number) end

-- For calls by which a child lets go of jobs: an error if the call came too late. Otherwise the write is counted.
local function refuse_release(key, number) return refuse_if_fenced(key, number) or count_write() end
