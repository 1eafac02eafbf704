-- What `require` finds: modules bundled with the service, and those of its operator.
--
-- Answers three functions: bundled(name) for our own use, allowed(name) for users, json().

local files, open, user_chunk, setup, null = ...

local error, pcall, tostring, type = error, pcall, tostring, type
local find, format, sub = string.find, string.format, string.sub

local INSTEAD = {
  ["resty.http"] = "use hook.request with untrusted_lua = lax",
  ["resty.redis"] = "a function cannot open connections",
  socket = "use hook.request with untrusted_lua = lax",
}

local loaded, own = {}, {}
local tools = { null = null }

local function file_of(name)
  local internal = sub(name, 1, 9) == "internal."
  return internal and "internal/" .. sub(name, 10) or "modules/" .. name
end

local function json()
  tools.json = tools.json or open("json", null)
  return tools.json
end

local function bundled(name)
  local module = loaded[name]
  if module == nil then
    json()
    module = open(file_of(name), tools)
    loaded[name] = module
  end
  return module
end

tools.require = bundled

local function own_module(name)
  if own[name] == nil then
    local chunk, problem = user_chunk(setup.modules[name], "@" .. name .. ".lua")
    if not chunk then error(problem, 0) end
    own[name] = true -- as in Lua, for modules that require each other
    local ok, module = pcall(chunk, name)
    own[name] = nil
    if not ok then error(module, 0) end
    own[name] = module == nil or module
  end
  return own[name]
end

local function allowed(name)
  if type(name) == "string" then
    if setup.modules[name] then return own_module(name) end
    if files[file_of(name)] and not find(name, "^internal%.") then return bundled(name) end
  end
  local text = format("require '%s' not allowed within sandbox", tostring(name))
  error(INSTEAD[name] and text .. ": " .. INSTEAD[name] or text, 2)
end

return bundled, allowed, json
