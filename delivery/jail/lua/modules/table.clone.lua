-- table.clone of OpenResty: a new table with the same fields, without the metatable.

local error, next, type = error, next, type

return function(fields)
  if type(fields) ~= "table" then
    error("bad argument #1 to 'clone' (table expected, got " .. type(fields) .. ")", 2)
  end
  local copy = {}
  for key, value in next, fields do copy[key] = value end
  return copy
end
