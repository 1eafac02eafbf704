-- One Lua state from the inside: what user code sees, and how the host runs it.
--
-- Runs once in a new state and answers three functions, called by the host in this order:
--   prepare(data, event, source, pid, lenient)  or prepare() to only load the functions
--   run()     the only time when user code runs; the host limits memory around it
--   report()  one msgpack string, and whether a limit was broken (the state is then dropped)
--
-- No value made by user code is handed to the host: only what report() encodes.

local sources, limits = ...

if jit then jit.off() end -- compiled traces would never call the hook that holds the clock

local byte, char, floor, min, sub = string.byte, string.char, math.floor, math.min, string.sub
local concat, clock, sethook = table.concat, os.clock, debug.sethook
local find, gsub = string.find, string.gsub
local error, loadstring, pcall, select, setfenv = error, loadstring, pcall, select, setfenv
local jit, setmetatable, tostring, type = jit, setmetatable, tostring, type

local HOOK_EVERY = 1000 -- instructions
local TIME_LIMIT = ("time limit of %gs exceeded"):format(limits.cpu_seconds)
local OUT_OF_MEMORY = "not enough memory" -- the virtual machine's own words
local MEMORY_LIMIT = ("%s (the limit is %g MiB)"):format(OUT_OF_MEMORY, limits.lua_memory / 2 ^ 20)

local arguments, thrown, failure, deadline, expired
local lines, levels, count, size, dropped

-- The clock -------------------------------------------------------------------------------------

local function tick()
  if clock() >= deadline then
    expired = true
    error(TIME_LIMIT, 2)
  end
end

-- Whatever can catch an error lets go of this one, or `while true do pcall(f) end` would not end.
local function unless_expired(...)
  if expired then error(TIME_LIMIT, 0) end
  return ...
end

-- The log ---------------------------------------------------------------------------------------

local function note(level, ...)
  if count >= limits.log_lines or size >= limits.log_size then
    dropped = dropped + 1
    return
  end
  local parts, text = { ... }, nil
  for index = 1, select("#", ...) do parts[index] = tostring(parts[index]) end
  text = sub(concat(parts), 1, limits.log_size - size)
  -- In this order: an error may strike between any two steps, and report() trusts the count.
  lines[count + 1], levels[count + 1] = text, level
  count, size = count + 1, size + #text
end

local function logger(level)
  return function(...) note(level, ...) end
end

-- The environment -------------------------------------------------------------------------------

local function pick(from, names)
  local picked = {}
  for name in names:gmatch("%S+") do picked[name] = from[name] end
  return picked
end

local function protect(name, module, call)
  return setmetatable({}, {
    __index = module,
    __newindex = function(_, key)
      error(("Cannot modify %s.%s. Protected by the sandbox."):format(name, tostring(key)), 2)
    end,
    __call = call,
  })
end

local function coroutines()
  local threads = pick(coroutine, "create running status wrap yield")
  local resume = coroutine.resume
  function threads.resume(...) return unless_expired(resume(...)) end
  if jit then return threads end

  -- Lua 5.1 has a hook per coroutine; LuaJIT has one for all.
  local create = coroutine.create
  local function raise(ok, ...)
    if not ok then error((...), 0) end
    return ...
  end
  function threads.create(body)
    local thread = create(body)
    sethook(thread, tick, "", HOOK_EVERY)
    return thread
  end
  function threads.wrap(body)
    local thread = threads.create(body)
    return function(...) return raise(threads.resume(thread, ...)) end
  end
  return threads
end

local function kong_log()
  local log = {
    debug = logger(10),
    info = logger(20),
    notice = logger(20),
    warn = logger(30),
    err = logger(40),
    crit = logger(50),
    alert = logger(50),
    emerg = logger(50),
  }
  return protect("kong.log", log, function(_, ...) note(20, ...) end)
end

local function ngx()
  local to_level = { [0] = 50, 50, 50, 50, 40, 30, 20, 20, 10 }
  return {
    null = newproxy(),
    log = function(level, ...) note(to_level[level] or 20, ...) end,
    STDERR = 0, EMERG = 1, ALERT = 2, CRIT = 3, ERR = 4, WARN = 5, NOTICE = 6, INFO = 7, DEBUG = 8,
  }
end

-- The real table is cut down too: strings reach it as ("").dump, whatever the environment holds.
local function reduced_string()
  local kept = pick(string, "byte char find format gmatch gsub len lower match rep reverse sub upper")
  for name in pairs(string) do string[name] = kept[name] end
  return string
end

local function environment()
  local xpcall = xpcall
  local env = pick(_G, "_VERSION assert error ipairs next pairs select tonumber tostring type unpack")
  function env.pcall(...) return unless_expired(pcall(...)) end
  function env.xpcall(body, handler, ...)
    return unless_expired(xpcall(body, function(problem)
      if expired then return problem end
      return handler(problem)
    end, ...))
  end
  function env.require(name)
    error(("require '%s' not allowed within sandbox"):format(tostring(name)), 2)
  end
  env.print = logger(20)
  env.bit = bit and protect("bit", bit)
  env.coroutine = protect("coroutine", coroutines())
  env.kong = protect("kong", { log = kong_log() })
  env.math = protect("math", pick(math, [[abs acos asin atan atan2 ceil cos cosh deg exp floor fmod
    frexp huge ldexp log log10 max min modf pi pow rad random sin sinh sqrt tan tanh]]))
  env.ngx = protect("ngx", ngx())
  env.os = protect("os", pick(os, "clock date difftime time"))
  env.string = protect("string", reduced_string())
  env.table = protect("table", pick(table, "concat insert maxn remove sort"))
  return env
end

local ENVIRONMENT = environment()
for _, known in ipairs({ package.loaded, _G }) do
  for name in pairs(known) do known[name] = nil end
end

-- Running ---------------------------------------------------------------------------------------

local function described(problem)
  if type(problem) == "string" or type(problem) == "number" then return tostring(problem) end
  return "(error object is a " .. type(problem) .. " value)"
end

-- Never bytecode, which is not verified. (LuaJIT refuses it behind a "#" line or a BOM by itself.)
local function compile(source)
  if byte(source, 1) == 27 then return nil, "attempt to load chunk with wrong mode" end
  return loadstring(source, source)
end

local function load_function(source)
  local chunk, problem = compile(source)
  if not chunk then return nil, "Error parsing function: " .. problem end

  local globals = setmetatable({}, { __index = ENVIRONMENT })
  globals._G = globals
  local ok, made = pcall(setfenv(chunk, globals))
  if not ok then return nil, "Error parsing function: " .. described(made) end
  if type(made) ~= "function" then
    return nil, "Bad return value from function, expected function type, got " .. type(made)
  end
  return made
end

local function refusal(index, result)
  local what = type(result) == "boolean" and tostring(result) or type(result)
  return ("function %d returned %s, expected true (will be retried)"):format(index, what)
end

local functions = {}

local function load_and_call()
  for index = 1, #sources do
    local body, problem = functions[index], nil
    if not body then
      body, problem = load_function(sources[index])
      if problem then return problem end
      functions[index] = body
    end
    if arguments then
      local result = body(arguments.data, arguments.event, arguments.source, arguments.pid)
      if result ~= true and not arguments.lenient then return refusal(index, result) end
    end
  end
end

local function prepare(data, event, source, pid, lenient)
  arguments = data and { data = data, event = event, source = source, pid = pid, lenient = lenient }
  lines, levels, count, size, dropped = {}, {}, 0, 0, 0
  thrown, failure = false, OUT_OF_MEMORY -- the only reason why run() would not get to say one
  expired, deadline = false, clock() + limits.cpu_seconds
end

local function run()
  sethook(tick, "", HOOK_EVERY)
  local ok, problem = pcall(load_and_call)
  sethook()
  thrown, failure = not ok, problem
end

-- Reporting: msgpack, of the shape of Report in lambda_frames.py --------------------------------

local function uint32(tag, number)
  return char(tag, floor(number / 2 ^ 24) % 256, floor(number / 2 ^ 16) % 256,
    floor(number / 256) % 256, number % 256)
end

local function binary(text) return uint32(0xc6, #text) .. text end

-- The text of what went wrong, or nil; and whether a limit was broken.
local function verdict()
  local problem = failure
  if thrown then problem = sub(described(problem), 1, limits.error_size) end
  if expired then
    local known = problem and find(problem, TIME_LIMIT, 1, true)
    return known and gsub(problem, "sandbox:%d+: ", "", 1) or TIME_LIMIT, true
  end
  if problem and find(problem, OUT_OF_MEMORY, 1, true) then
    return (gsub(problem, OUT_OF_MEMORY, MEMORY_LIMIT, 1)), true
  end
  return problem, false
end

local function report()
  sethook() -- an error of tick() has left run() early if the time ran out between two of its lines
  local problem, broken = verdict()
  local out = { char(0x93), problem and binary(sub(problem, 1, limits.error_size)) or char(0xc0) }
  out[#out + 1] = uint32(0xdd, count)
  for index = 1, count do
    out[#out + 1] = char(0x92, levels[index]) .. binary(lines[index])
  end
  out[#out + 1] = uint32(0xce, min(dropped, 2 ^ 32 - 1))
  arguments, failure, lines, levels = nil, nil, nil, nil
  return concat(out), broken
end

return prepare, run, report
