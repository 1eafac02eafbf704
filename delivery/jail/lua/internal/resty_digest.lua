-- The interface of lua-resty-string's digests around one of ours: module:new(), and of what that
-- makes :update(text), :final() with the bytes so far, :reset().

local error, setmetatable, type = error, setmetatable, type

return function(digest)
  local new = digest.new
  local module = {}
  local metatable = { __index = module }

  function module.new() return setmetatable({ hasher = new() }, metatable) end

  function module.update(object, text)
    if type(text) ~= "string" then
      error("bad argument #1 to 'update' (string expected, got " .. type(text) .. ")", 2)
    end
    object.hasher.update(text)
    return true
  end

  function module.final(object) return object.hasher.final() end

  function module.reset(object)
    object.hasher = new()
    return true
  end

  return module
end
