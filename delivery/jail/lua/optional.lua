-- What functions find beyond the usual if the service's settings say so.
--
-- Answers two functions: named(name) is what one name of untrusted_lua_sandbox_environment stands
-- for, or nil; everything(date) is what untrusted_lua = on adds, with this as os.date. `host` holds
-- the environments of our own functions, which nobody may see or change; globals() are those of the
-- function that runs.

local protect, log, user_chunk, globals, host = ...

local concat, find = table.concat, string.find
local collectgarbage, error, getfenv, getinfo = collectgarbage, error, getfenv, debug.getinfo
local getmetatable, io, next, os, rawequal, rawget = getmetatable, io, next, os, rawequal, rawget
local rawset, setfenv, setmetatable, traceback, type =
  rawset, setfenv, setmetatable, debug.traceback, type

-- Environments of functions -----------------------------------------------------------------------

-- The function at a level that counts from the caller of whoever calls this; nil if it is gone
-- (Lua 5.1 forgets those that end in a call) or there is none.
local function function_at(level)
  local found = getinfo(level + 2, "f")
  return found and found.func
end

-- The environment of a user's function, nil for any of ours.
local function environment_of(body)
  local environment = body and getfenv(body)
  if host[environment] then return nil end
  return environment
end

local environments = {}

function environments.getfenv(target)
  if target == nil then target = 1 end
  local body = target
  if type(target) == "number" then body = target > 0 and function_at(target) end
  if body and type(body) ~= "function" then
    error("bad argument #1 to 'getfenv' (number expected, got " .. type(body) .. ")", 2)
  end
  return environment_of(body) or globals()
end

function environments.setfenv(target, environment)
  local body = target
  if type(target) == "number" then body = target > 0 and function_at(target) end
  if type(environment) ~= "table" then
    error("bad argument #2 to 'setfenv' (table expected, got " .. type(environment) .. ")", 2)
  end
  if type(body) ~= "function" or not environment_of(body) then
    error("'setfenv' cannot change environment of given object", 2)
  end
  return setfenv(body, environment)
end

-- Chunks ------------------------------------------------------------------------------------------

local function pieces(reader)
  local parts, count = {}, 0
  while true do
    local piece = reader()
    if piece == nil or piece == "" then return concat(parts) end
    if type(piece) ~= "string" then error("reader function must return a string", 0) end
    count = count + 1
    parts[count] = piece
  end
end

local chunks = {}

function chunks.load(source, name, mode, environment)
  environment = environment or environment_of(function_at(1)) or globals()
  if type(mode) == "string" and not find(mode, "t", 1, true) then
    return nil, "attempt to load chunk with wrong mode"
  end
  if type(source) == "function" then source, name = pieces(source), name or "=(load)" end
  if type(source) ~= "string" then
    error("bad argument #1 to 'load' (string expected, got " .. type(source) .. ")", 2)
  end
  return user_chunk(source, name or source, environment)
end

function chunks.loadstring(source, name)
  local environment = environment_of(function_at(1)) or globals()
  if type(source) ~= "string" then
    error("bad argument #1 to 'loadstring' (string expected, got " .. type(source) .. ")", 2)
  end
  return user_chunk(source, name or source, environment)
end

-- Names -------------------------------------------------------------------------------------------

local OPTIONAL = {
  getmetatable = getmetatable,
  load = chunks.load,
  loadstring = chunks.loadstring,
  rawequal = rawequal,
  rawget = rawget,
  rawset = rawset,
  setmetatable = setmetatable,
}

function OPTIONAL.collectgarbage(what)
  if what ~= "count" then error('collectgarbage: only "count" is possible here', 2) end
  return collectgarbage("count")
end

-- Without standard input and output: they are the way to the service.
local function io_library()
  local function lines(name, ...)
    if name == nil then error("io.lines: there is no standard input", 2) end
    return io.lines(name, ...)
  end
  return {
    lines = lines, open = io.open, popen = io.popen, tmpfile = io.tmpfile, type = io.type,
    write = log.at(20),
  }
end

local function everything(date)
  local names = { getfenv = environments.getfenv, setfenv = environments.setfenv }
  for name, value in next, OPTIONAL do names[name] = value end
  names.debug = protect("debug", { traceback = traceback })
  names.io = protect("io", io_library())
  names.os = protect("os", {
    clock = os.clock, date = date, difftime = os.difftime, execute = os.execute, exit = os.exit,
    getenv = os.getenv, remove = os.remove, rename = os.rename, time = os.time,
    tmpname = os.tmpname,
  })
  return names
end

return function(name) return OPTIONAL[name] end, everything
