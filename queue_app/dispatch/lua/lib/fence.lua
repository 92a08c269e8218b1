--[[ fence: keeps out calls of a child that were made before what it holds was put in order. See holder.py. ]]
local function refuse_if_fenced(key, number)
  if tonumber(redis.call('GET', key) or 0) > tonumber(number) then
    return redis.error_reply('FENCED a call of this child that came too late')
  end
end
