-- The libraries that functions and templates share: Kong's list, nothing that reaches outside.
--
-- Answers two functions: base() makes a table of them, and lazily(table, makers) adds to a table
-- fields that are made when they are first used, as most functions need few of them.

local guard, protect, bundled, constants = ...

local date, find, next, pairs, rawset, select = os.date, string.find, next, pairs, rawset, select
local setmetatable, type, unpack = setmetatable, type, unpack

local function pick(from, names)
  local picked = {}
  for name in names:gmatch("%S+") do picked[name] = from[name] end
  return picked
end

local function lazily(fields, makers)
  return setmetatable(fields, {
    __index = function(_, key)
      local make = makers[key]
      if not make then return nil end
      local value = make(key)
      rawset(fields, key, value)
      return value
    end,
  })
end

-- The real table is cut down too: strings reach it as ("").dump, whatever the environment holds.
local function reduced_string()
  local kept = pick(string, [[byte char find format gmatch gsub len lower match rep reverse sub
    upper]])
  for name in pairs(string) do string[name] = kept[name] end
  getmetatable("").__metatable = false
  return string
end

local function move(from, first, last, at, to)
  to = to or from
  local start, stop, step = first, last, 1
  if to == from and at > first then start, stop, step = last, first, -1 end
  for index = start, stop, step do to[at + index - first] = from[index] end
  return to
end

local function table_library()
  local library = pick(table, "concat insert maxn remove sort")
  library.move, library.unpack = move, unpack
  function library.pack(...) return { n = select("#", ...), ... } end

  local makers = {}
  for name in ("clear clone isarray isempty new nkeys"):gmatch("%a+") do
    makers[name] = function() return bundled("table." .. name) end
  end
  return lazily(library, makers)
end

local function os_library()
  local library = pick(os, "clock difftime time")
  -- Always UTC: where this runs no zone file can be read.
  function library.date(pattern, time)
    if pattern == nil then pattern = "%c" end
    if type(pattern) == "string" and not find(pattern, "^!") then pattern = "!" .. pattern end
    return date(pattern, time)
  end
  return library
end

local shared = pick(_G, [[_VERSION assert error ipairs next pairs select tonumber tostring type
  unpack]])
shared.pcall, shared.xpcall = guard.pcall, guard.xpcall
shared.coroutine = protect("coroutine", guard.coroutine)
shared.io = protect("io", pick(io, "type"))
shared.jit = protect("jit", pick(constants, "arch os version version_num"))
shared.math = protect("math", pick(math, [[abs acos asin atan atan2 ceil cos cosh deg exp floor fmod
  frexp huge ldexp log log10 max min modf pi pow rad random sin sinh sqrt tan tanh]]))
shared.os = protect("os", os_library())
shared.string = protect("string", reduced_string())
shared.table = protect("table", table_library())

local function base()
  local fields = {}
  for name, value in next, shared do fields[name] = value end
  return fields
end

return base, lazily
