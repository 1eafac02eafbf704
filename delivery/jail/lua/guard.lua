-- The clocks of a state, and what keeps user code from outliving its time.
--
-- Everything that can catch an error is replaced by a version that lets go of the clock's.

local cpu_seconds = ...

local clock, sethook = os.clock, debug.sethook
local error, pairs, pcall, select, unpack, xpcall = error, pairs, pcall, select, unpack, xpcall
local coroutine, jit = coroutine, jit

local HOOK_EVERY = 1000 -- instructions
local TIME_LIMIT = ("time limit of %gs exceeded"):format(cpu_seconds)

local guard = { TIME_LIMIT = TIME_LIMIT }
local deadline, expired, now, started, told

local function tick()
  if clock() >= deadline then
    expired = true
    error(TIME_LIMIT, 2)
  end
end

-- Otherwise `while true do pcall(f) end` would not end.
local function unless_expired(...)
  if expired then error(TIME_LIMIT, 0) end
  return ...
end

function guard.expired() return expired end

function guard.prepare(time)
  now, started, expired = time, clock(), false
  told, deadline = now, started + cpu_seconds
end

-- The time of day as of the start of the call, or of the last update.
function guard.now() return told end

-- There is no clock in here with more than seconds, so what has passed is processor time.
function guard.update_time() told = now + clock() - started end

function guard.start() sethook(tick, "", HOOK_EVERY) end

function guard.stop() sethook() end

function guard.pcall(...) return unless_expired(pcall(...)) end

local function handled_by(handler)
  return function(problem)
    if expired then return problem end
    return handler(problem)
  end
end

function guard.xpcall(body, handler, ...)
  if jit or select("#", ...) == 0 then
    return unless_expired(xpcall(body, handled_by(handler), ...))
  end
  local count, arguments = select("#", ...), { ... } -- Lua 5.1 passes none on
  local function call() return body(unpack(arguments, 1, count)) end
  return unless_expired(xpcall(call, handled_by(handler)))
end

guard.coroutine = {}
for _, name in pairs({ "create", "running", "status", "wrap", "yield" }) do
  guard.coroutine[name] = coroutine[name]
end

local resume = coroutine.resume
function guard.coroutine.resume(...) return unless_expired(resume(...)) end

-- Lua 5.1 has a hook per coroutine; LuaJIT has one for all.
if not jit then
  local create = coroutine.create

  local function raise(ok, ...)
    if not ok then error((...), 0) end
    return ...
  end

  function guard.coroutine.create(body)
    local thread = create(body)
    sethook(thread, tick, "", HOOK_EVERY)
    return thread
  end

  function guard.coroutine.wrap(body)
    local thread = guard.coroutine.create(body)
    return function(...) return raise(guard.coroutine.resume(thread, ...)) end
  end
end

return guard
