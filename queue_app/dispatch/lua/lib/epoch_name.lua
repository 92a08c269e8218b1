--[[ epoch_name: reads the name in an epoch, '<life>|<name>|<begun>|<phase>'. ]]
local function name_of_epoch(epoch) return string.match(epoch, '^[^|]*|([^|]*)|') end
