-- table.nkeys of OpenResty: how many fields a table has.

local error, next, type = error, next, type

return function(fields)
  if type(fields) ~= "table" then
    error("bad argument #1 to 'nkeys' (table expected, got " .. type(fields) .. ")", 2)
  end
  local count = 0
  for _ in next, fields do count = count + 1 end
  return count
end
