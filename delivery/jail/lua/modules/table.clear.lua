-- table.clear of LuaJIT: removes all fields of a table.

local error, next, type = error, next, type

return function(fields)
  if type(fields) ~= "table" then
    error("bad argument #1 to 'clear' (table expected, got " .. type(fields) .. ")", 2)
  end
  for key in next, fields do fields[key] = nil end
end
