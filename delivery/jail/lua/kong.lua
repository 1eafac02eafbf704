-- The `kong` that functions find: their log, and what they may know of the service.

local protect, lazily, log, setup, json = ...

local format, match, tonumber = string.format, string.match, tonumber
local error, pairs, select, setmetatable, type = error, pairs, select, setmetatable, type

local LEVELS = {
  debug = 10, info = 20, notice = 20, warn = 30, err = 40, crit = 50, alert = 50, emerg = 50,
}

local function inspected(first, ...)
  if type(first) == "table" then first = json().safe_encode(first) or first end
  if select("#", ...) == 0 then return first end
  return first, " ", inspected(...)
end

local function logger()
  local levels = {}
  for name, level in pairs(LEVELS) do levels[name] = log.at(level) end
  function levels.inspect(...) log.note(LEVELS.debug, inspected(...)) end
  return protect("kong.log", levels, function(_, ...) log.note(LEVELS.notice, ...) end)
end

-- Kong's way: 3.9.1 is 3009001.
local function version_number()
  local major, minor, patch = match(setup.version, "^(%d+)%.(%d+)%.(%d+)")
  if not major then return 0 end
  return tonumber(format("%d%.2d%.2d", major * 100, minor * 10, patch))
end

local function node()
  return protect("kong.node", {
    get_id = function() return setup.node_id end,
    get_hostname = function() return setup.hostname end,
  })
end

local function table_functions()
  return protect("kong.table", {
    new = function() return {} end,
    clear = function(fields)
      for key in pairs(fields) do fields[key] = nil end
    end,
  })
end

local ABSENT = "kong.%s is not available: a function gets all it may know in its arguments, "
  .. "and its requests go through hook.request (untrusted_lua = lax)"

local function absent(name) error(format(ABSENT, name), 3) end

return protect("kong", lazily({
  version = setup.version,
  version_num = version_number(),
  log = logger(),
  node = node(),
  table = table_functions(),
}, {
  configuration = function()
    return protect("kong.configuration", json().decode(setup.configuration))
  end,
  cache = absent, client = absent, db = absent, dns = absent,
}))
