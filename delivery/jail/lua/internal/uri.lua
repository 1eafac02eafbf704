-- URI escaping by OpenResty's rules:
--   escape(text[, type])       ngx.escape_uri; type 0 keeps what may stand in a whole URI
--   unescape(text)             ngx.unescape_uri: "+" is a blank, what is no escape stays
--   encode_args(arguments)     ngx.encode_args; the order of arguments is not defined
--   decode_args(text[, max])   ngx.decode_args: the arguments, and "truncated" if there were more

local char, find, format, gsub = string.char, string.find, string.format, string.gsub
local sub, concat, error, next = string.sub, table.concat, error, next
local tonumber, tostring, type = tonumber, tostring, type

local HEX = {}
for code = 0, 255 do HEX[char(code)] = format("%%%02X", code) end

local RESERVED = { -- by type
  [0] = '[%z\1-\32#%%?\127-\255]',
  [2] = "[^%w%-._~]",
}

local uri = {}

local function escape(text, kind)
  local reserved = RESERVED[kind or 2]
  if not reserved then error("bad argument #2 to 'escape_uri' (0 or 2 expected)", 2) end
  return (gsub(text, reserved, HEX))
end

local function unescaped(digits) return char(tonumber(digits, 16)) end

local function unescape(text)
  return (gsub(gsub(text, "%+", " "), "%%(%x%x)", unescaped))
end

local function append(parts, name, value)
  local kind = type(value)
  if value == false then return end
  if value == true then
    parts[#parts + 1] = name
  elseif kind == "string" or kind == "number" then
    parts[#parts + 1] = name .. "=" .. escape(tostring(value))
  else
    error("attempt to use " .. kind .. " as query arg value", 3)
  end
end

function uri.encode_args(arguments)
  local parts = {}
  for name, value in next, arguments do
    if type(name) ~= "string" then
      error('attempt to use a non-string key in the "args" option table', 2)
    end
    name = escape(name)
    if type(value) == "table" then
      for index = 1, #value do append(parts, name, value[index]) end
    else
      append(parts, name, value)
    end
  end
  return concat(parts, "&")
end

-- A name that comes again turns its value into an array.
local function add(arguments, name, value)
  local known = arguments[name]
  if known == nil then
    arguments[name] = value
  elseif type(known) == "table" then
    known[#known + 1] = value
  else
    arguments[name] = { known, value }
  end
end

local function read_argument(arguments, part)
  local equals = find(part, "=", 1, true)
  if equals == 1 then return end
  if equals then
    add(arguments, unescape(sub(part, 1, equals - 1)), unescape(sub(part, equals + 1)))
  else
    add(arguments, unescape(part), true)
  end
end

function uri.decode_args(text, max)
  local arguments, count, at = {}, 0, 1
  max = max or 100
  while at <= #text do
    local stop = find(text, "&", at, true) or #text + 1
    if stop > at then
      if count == max and max > 0 then return arguments, "truncated" end
      count = count + 1
      read_argument(arguments, sub(text, at, stop - 1))
    end
    at = stop + 1
  end
  return arguments
end

uri.escape, uri.unescape = escape, unescape
return uri
