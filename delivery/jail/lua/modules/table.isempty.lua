-- table.isempty of OpenResty: whether a table has no fields.

local error, next, type = error, next, type

return function(fields)
  if type(fields) ~= "table" then
    error("bad argument #1 to 'isempty' (table expected, got " .. type(fields) .. ")", 2)
  end
  return next(fields) == nil
end
