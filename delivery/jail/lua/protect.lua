-- protect(name, module[, call]) is a table that reads like `module` and refuses to be changed.

local error, format, setmetatable, tostring = error, string.format, setmetatable, tostring

return function(name, module, call)
  return setmetatable({}, {
    __call = call,
    __index = module,
    __metatable = false,
    __newindex = function(_, key)
      error(format("Cannot modify %s.%s. Protected by the sandbox.", name, tostring(key)), 2)
    end,
  })
end
