-- table.isarray of OpenResty: whether all keys are positive integers; so it is for {}.

local error, next, type = error, next, type

return function(fields)
  if type(fields) ~= "table" then
    error("bad argument #1 to 'isarray' (table expected, got " .. type(fields) .. ")", 2)
  end
  for key in next, fields do
    if type(key) ~= "number" or key < 1 or key % 1 ~= 0 then return false end
  end
  return true
end
