-- The functions of a hook: made from their sources, and called one after the other.

local sources, environment, user_chunk, described, effects, raw_pcall = ...

local format, setmetatable, tostring, type = string.format, setmetatable, tostring, type

local bodies, globals = {}, {}

-- Each has globals of its own, which live as long as the state.
local function globals_of(index)
  if not globals[index] then
    local own = setmetatable({}, { __index = environment, __metatable = false })
    own._G = own
    globals[index] = own
  end
  return globals[index]
end

-- The function at an index; or nil and what is wrong, in Kong's words.
local function load(index)
  if bodies[index] then return bodies[index] end
  local chunk, problem = user_chunk(sources[index], sources[index], globals_of(index))
  if not chunk then return nil, "Error parsing function: " .. problem end
  local ok, made = raw_pcall(chunk)
  if not ok then return nil, "Error parsing function: " .. described(made) end
  if type(made) ~= "function" then
    return nil, "Bad return value from function, expected function type, got " .. type(made)
  end
  bodies[index] = made
  return made
end

local function refusal(index, result)
  local what = type(result) == "boolean" and tostring(result) or type(result)
  return format("function %d returned %s, expected true (will be retried)", index, what)
end

-- What the function at an index returned, and why that is a failure.
local function call(index, arguments)
  local body = bodies[index]
  effects.start()
  local result = body(arguments.data, arguments.event, arguments.source, arguments.pid)
  effects.stop()
  if result == true or arguments.lenient or effects.is_skipped() then return result end
  return result, refusal(index, result)
end

local NO_TEXTS = {}

local function prepare() end

local function texts() return NO_TEXTS end

return {
  count = #sources, load = load, call = call, prepare = prepare, texts = texts,
  globals_of = globals_of,
}
