-- The templates of a hook: compiled by the engine, loaded and rendered here.

local parts, template, text_size = ...

local loaded = {}
local texts, room

-- The template at an index; or nil, what is wrong, and where if that is known.
local function load(index)
  if loaded[index] then return loaded[index] end
  local part = parts[index]
  if part.problem then return nil, part.problem, part.line end
  local made, problem = template.load(part.lua, part.literals, part.blocks)
  loaded[index] = made
  return made, problem
end

local function call(index, arguments)
  local text = template.render(loaded[index], arguments.data, room)
  texts[index], room = text, room - #text
end

local function prepare() texts, room = {}, text_size end

local function made() return texts end

return { count = #parts, load = load, call = call, prepare = prepare, texts = made }
