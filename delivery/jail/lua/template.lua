-- Runs templates that resty.py has made Lua of: prints, finds names, keeps blocks.
--
-- Called with the globals that templates see, the table of json.lua and the sentinel for null.
-- Answers a table of:
--   load(lua, literals[, blocks])       a template, or nil and what is wrong with it
--   render(template, context, limit)    its text of at most `limit` bytes; raises what is wrong
-- What a template assigns is gone after the render, unless it is within `context`.

local environment, json, null = ...

local concat, find, format, gsub, sub =
  table.concat, string.find, string.format, string.gsub, string.sub
local error, getinfo, loadstring, pcall, rawget = error, debug.getinfo, loadstring, pcall, rawget
local select, setfenv, setmetatable, tostring, type = select, setfenv, setmetatable, tostring, type

local INCLUDES_DISABLED = "includes are disabled"
local TOO_LONG = "the text becomes too long"
local SPECIAL, SPECIAL_OR_BRACE = "[&<>\"'/]", "[&<>\"'/{}]"
local ENTITIES = {
  ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;",
  ["/"] = "&#47;", ["{"] = "&#123;", ["}"] = "&#125;",
}

local left -- bytes that the render may still print

-- Failing -----------------------------------------------------------------------------------------

local HERE = getinfo(1, "S").short_src

-- However deep in here something goes wrong, the user wants to know where in the template.
local function fail(problem)
  local level, at = 2, nil
  repeat
    level = level + 1
    at = getinfo(level, "Sl")
  until not at or at.source == "=template"
  error(at and format("template:%d: %s", at.currentline, problem) or problem, 0)
end

local function include() fail(INCLUDES_DISABLED) end

-- Printing ----------------------------------------------------------------------------------------

local function result_of(body)
  local ok, result = pcall(body)
  if ok then return result end
  if type(result) ~= "string" then fail("(error object is a " .. type(result) .. " value)") end
  if find(result, "^template:%d+: ") then error(result, 0) end
  if find(result, HERE, 1, true) == 1 then result = gsub(sub(result, #HERE + 1), "^:%d+: ", "") end
  fail(result)
end

local function output(value)
  while type(value) == "function" do value = result_of(value) end
  if value == nil or value == null then return "" end
  return tostring(value)
end

-- The second argument is meant to be true, but `{{ s:gsub(a, b) }}` gives it a number.
local function escape(value, braces)
  if type(value) ~= "string" then return output(value) end
  return (gsub(value, braces and SPECIAL_OR_BRACE or SPECIAL, ENTITIES))
end

local function to_json(value)
  if value == nil then value = null end
  local text, problem = json.safe_encode(value, left)
  return text or fail(problem)
end

-- Names -------------------------------------------------------------------------------------------

local engine = { escape = escape, json = to_json, output = output }
for name in ([[compile compile_file compile_string load load_file load_string new parse parse_file
  parse_string precompile precompile_file precompile_string process process_file process_string
  render render_file render_string]]):gmatch("%S+") do
  engine[name] = include
end

local visible_engine = setmetatable({}, {
  __index = engine,
  __newindex = function(_, name)
    fail(format("Cannot modify template.%s. Protected by the sandbox.", tostring(name)))
  end,
  __metatable = false,
})

local function names(context)
  local own = { context = context }
  return setmetatable(own, {
    __index = function(_, name)
      local present = rawget(own, "context")
      return type(present) == "table" and present[name] or engine[name] or environment[name]
    end,
    __metatable = false,
  })
end

-- Running -----------------------------------------------------------------------------------------

local function run(template, chunk, context)
  local own, texts, count = names(context), {}, 0

  local function print_text(text)
    left = left - #text
    if left < 0 then fail(TOO_LONG) end
    count = count + 1
    texts[count] = text
  end

  local function echo(...)
    local values = { ... }
    for index = 1, select("#", ...) do print_text(tostring(values[index])) end
  end

  local machine = { escape = escape, output = output }
  function machine.block(index)
    return run(template, template.blocks[index], rawget(own, "context"))
  end
  function machine.finish(layout)
    if layout then fail(INCLUDES_DISABLED) end
    return concat(texts)
  end

  local literals = template.literals
  local visible_machine = setmetatable({}, {
    __index = function(_, key) return literals[key] or machine[key] end,
    __newindex = function(_, _, value) print_text(output(value)) end,
    __metatable = false,
  })
  local blocks = type(context) == "table" and context.blocks or {}
  return setfenv(chunk, own)(visible_machine, blocks, nil, include, echo, visible_engine)
end

local function render(template, context, limit)
  left = limit
  local text = output(run(template, template.main, context))
  if #text > limit then error(TOO_LONG, 0) end
  return text
end

-- In words about the template: the user has not written the code around it.
local function explained(problem)
  if find(problem, "\1", 1, true) or find(problem, "'char(1)'", 1, true) then
    return (gsub(problem, "^(template:%d+: ).*", "%1unfinished string"))
  end
  return (gsub(problem, "'___'", "the end of the tag"))
end

local function compile(lua)
  local chunk, problem = loadstring(lua, "=template")
  return chunk, problem and explained(problem)
end

local function load(lua, literals, blocks)
  local template = { literals = literals, blocks = {} }
  local problem
  template.main, problem = compile(lua)
  for index = 1, blocks and #blocks or 0 do
    if problem then break end
    template.blocks[index], problem = compile(blocks[index])
  end
  if problem then return nil, problem end
  return template
end

return { load = load, render = render }
