-- One Lua state from the inside: what it consists of, and how the host runs it.
--
-- Runs once in a new state, with our other files, the program (`functions` or `templates`), what is
-- known of the service, and the limits. Answers three functions, called by the host in this order:
--   prepare(now, data, event, source, pid, lenient, depth)
--             without data run() only sees whether the program's parts can be loaded
--   run()     the only time when user code runs; the host limits memory around it
--   report()  one msgpack string, and whether a limit was broken: the state is then dropped
--
-- No value made by user code is handed to the host: only what report() encodes.

local files, program, setup, limits = ...

if jit then jit.off() end -- compiled traces would never call the hook that holds the clock

local byte, find, format, gsub = string.byte, string.find, string.format, string.gsub
local match, sub = string.match, string.sub
local loadstring, next, pcall, setfenv = loadstring, next, pcall, setfenv
local setmetatable, tonumber, tostring, type = setmetatable, tonumber, tostring, type

local OUT_OF_MEMORY = "not enough memory" -- the virtual machine's own words
local MEMORY_LIMIT = format("%s (the limit is %g MiB)", OUT_OF_MEMORY, limits.lua_memory / 2 ^ 20)

-- Our own files -----------------------------------------------------------------------------------

-- They keep the globals that users lose, except that nothing of theirs catches the clock's error.
local private = {}
for name, value in next, _G do private[name] = value end

local function open(name, ...) return setfenv(loadstring(files[name]), private)(...) end

local null = newproxy(true)
getmetatable(null).__tostring = function() return "userdata: NULL" end
getmetatable(null).__metatable = false

local guard = open("guard", limits.cpu_seconds)
private.pcall, private.xpcall, private.coroutine = guard.pcall, guard.xpcall, guard.coroutine
local constants = jit or open("lua51")
local protect = open("protect")
math.randomseed(setup.seed)

-- Never bytecode, which is not verified. (LuaJIT refuses it behind a "#" line or a BOM by itself.)
local function user_chunk(source, name, environment)
  if byte(source, 1) == 27 then return nil, "attempt to load chunk with wrong mode" end
  local chunk, problem = loadstring(source, name)
  return chunk and setfenv(chunk, environment), problem
end

-- What users find ---------------------------------------------------------------------------------

local environment -- of functions, and of their operator's modules
local function module_chunk(source, name)
  return user_chunk(source, name, setmetatable({}, { __index = environment, __metatable = false }))
end

local bundled, allowed, json = open("modules", files, open, module_chunk, setup, null)
local base, lazily = open("libraries", guard, protect, bundled, constants)
local log = open("log", limits.log_lines, limits.log_size)
local hook, effects = open("effects", protect, limits, setup.untrusted_lua ~= "sandbox", json)
local encode = open("report")
local at = 1 -- the part of the program that is being run
local runner

local function bit_library() return protect("bit", bundled("bit")) end

local function add_optional(env)
  if setup.untrusted_lua ~= "on" and not next(setup.environment) then return end
  local function globals() return runner.globals_of(at) end
  local named, everything =
    open("optional", protect, log, user_chunk, globals, { [_G] = true, [private] = true })
  for _, name in next, setup.environment do env[name] = named(name) end
  if setup.untrusted_lua == "on" then
    for name, value in next, everything(env.os.date) do env[name] = value end
  end
end

local function environment_of_functions()
  local env = base()
  env.hook, env.print, env.require = hook, log.at(20), allowed
  add_optional(env)
  return lazily(env, {
    bit = bit_library,
    kong = function() return open("kong", protect, lazily, log, setup, json) end,
    ngx = function() return open("ngx", protect, lazily, log, guard, bundled, null) end,
  })
end

-- Without tostring() for anything else: that could run user code.
local function described(problem)
  if type(problem) == "string" or type(problem) == "number" then return tostring(problem) end
  return "(error object is a " .. type(problem) .. " value)"
end

if program.functions then
  environment = environment_of_functions()
  runner = open("functions", program.functions, environment, user_chunk, described, effects, pcall)
else
  environment = lazily(base(), { bit = bit_library })
  local template = open("template", environment, json(), null)
  runner = open("templates", program.templates, template, limits.text_size)
end

for _, known in next, { package.loaded, _G } do
  for name in next, known do known[name] = nil end
end

-- Running -----------------------------------------------------------------------------------------

local arguments, failures, finished, thrown, problem, result

local function fail(text, line)
  failures[#failures + 1] = { index = at - 1, line = line, text = text }
end

local function check()
  for index = 1, runner.count do
    at = index
    local part, fault, line = runner.load(index)
    if not part then fail(fault, line) end
    if guard.expired() then return end
  end
end

local function encoded(value)
  if type(value) == "boolean" then return tostring(value) end
  if value == nil then return nil end
  return (json().safe_encode(value, limits.result_size - effects.size()))
end

local function call_all()
  local returned, refusal
  for index = 1, runner.count do
    at = index
    local part, fault, line = runner.load(index)
    if not part then return fail(fault, line) end
    returned, refusal = runner.call(index, arguments)
    if refusal then fail(refusal) end
    if refusal or effects.is_skipped() then break end
  end
  result = encoded(returned)
end

local function prepare(now, data, event, source, pid, lenient, depth)
  arguments = data and {
    data = data, event = event, source = source, pid = pid, lenient = lenient, depth = depth,
  }
  failures, result, at, finished, thrown = {}, nil, 1, false, false
  log.prepare()
  effects.prepare(arguments)
  runner.prepare()
  guard.prepare(now)
end

local function run()
  guard.start()
  local ok, raised = pcall(arguments and call_all or check)
  guard.stop()
  thrown, problem, finished = not ok, raised, true
end

-- Reporting ---------------------------------------------------------------------------------------

-- The text of what went wrong as users should see it, and whether a limit was broken.
local function verdict(text)
  text = gsub(text, "sandbox/[%w_./]+:%d+: ", "", 1) -- the place, when no user's function is there
  if find(text, guard.TIME_LIMIT, 1, true) then return text, true end
  if find(text, OUT_OF_MEMORY, 1, true) then
    return gsub(text, OUT_OF_MEMORY, MEMORY_LIMIT, 1), true
  end
  return text, false
end

-- What ended run() itself, if anything did.
local function ending()
  local text = thrown and described(problem)
  if guard.expired() then
    if text and find(text, guard.TIME_LIMIT, 1, true) then return text end
    return (thrown or #failures == 0) and guard.TIME_LIMIT
  end
  return finished and text or not finished and OUT_OF_MEMORY
end

-- The line of a template that a text names, and the rest; a text may name any.
local function place(text)
  local line, rest = match(text, "^template:(%d+): (.*)$")
  if program.templates and line and #line < 10 then return tonumber(line), rest end
  return nil, text
end

-- Whether a limit was broken. Now each failure has its final text, and its line in a template.
local function judge()
  local broken, ended = guard.expired(), ending()
  if ended then fail(ended) end
  for index = 1, #failures do
    local failure = failures[index]
    local text, limit = verdict(failure.text)
    local line, rest = place(text)
    failure.line, failure.text = failure.line or line, sub(rest, 1, limits.error_size)
    broken = broken or limit
  end
  return broken
end

local function report()
  guard.stop() -- an error of the clock may have left run() early, between two of its lines
  local broken = judge()
  local failed = #failures > 0
  local encoded_report = encode(failures, log, result, failed and {} or runner.texts(),
    failed and {} or effects.list())
  arguments, failures, problem, result = nil, nil, nil, nil
  return encoded_report, broken
end

return prepare, run, report
