-- JSON: Lua values to text and back, by the rules and in the words of lua-cjson.
--
-- Called with the sentinel that stands for null. Answers a codec (see below) with two more fields:
--   null, empty_array        sentinels; the second is written as []
--   array_mt                 metatable: written as an array of its length, holes as null
--   empty_array_mt           metatable: written as [] when empty
--   new(options)             another codec; a change of its `options` takes effect at once
--
-- A codec has:
--   encode(value[, max_bytes])       text; raises what is wrong
--   decode(text)                     value, with null as the sentinel; raises what is wrong
--   safe_encode, safe_decode         the same, but answer nil and what is wrong
--   options                          its settings, DEFAULTS unless told otherwise
--
-- Encoding: {} is an object; a table is an array if all its keys are positive integers, and refused
-- if more than half of a long one is missing; numbers have 14 digits, but integers all of theirs up
-- to 2^53; bytes beyond ASCII pass as they are, so the text is JSON once it is decoded as UTF-8
-- with replacement of what is no UTF-8. "/" is left alone unless `escape_slash` is set, as in
-- lua-cjson. No metamethod is ever called.
--
-- Decoding is stricter than lua-cjson's: only JSON is accepted, thus no control characters within
-- strings, no 007, 0x10, nan. Of equal keys the last wins.
--
-- Nothing but the captured functions is used, and all loops over values are Lua's: users can
-- neither change how it works nor keep the clock from stopping it.

local null = ...

local byte, char, find, format = string.byte, string.char, string.find, string.format
local gsub, match, sub = string.gsub, string.match, string.sub
local concat, floor, huge = table.concat, math.floor, math.huge
local error, getmetatable, newproxy, next, pcall = error, getmetatable, newproxy, next, pcall
local rawget, setmetatable, tonumber, tostring = rawget, setmetatable, tonumber, tostring
local type = type

local DEFAULTS = {
  array_with_mt = false, -- decoded arrays get array_mt
  decode_max_depth = 1000,
  empty_as_object = true,
  encode_max_depth = 100,
  escape_slash = false,
  invalid_numbers = false, -- infinite ones: "null" writes null, true what is not JSON
  number_format = "%.14g",
  sparse_convert = false, -- to an object, instead of refusing
  sparse_ratio = 2,
  sparse_safe = 10,
}

local empty_array = newproxy()
local array_mt, empty_array_mt = {}, {}

-- Failing -----------------------------------------------------------------------------------------

local FAILED = {}
local complaint

local function fail(pattern, ...)
  complaint = format(pattern, ...)
  error(FAILED, 0)
end

-- Only our own complaints are caught: the end of time or memory passes.
local function caught(ok, ...)
  if ok then return ... end
  if ... ~= FAILED then error(..., 0) end
  return nil, complaint
end

-- Encoding ----------------------------------------------------------------------------------------

local ESCAPES = {
  ["\b"] = "\\b", ["\t"] = "\\t", ["\n"] = "\\n", ["\f"] = "\\f", ["\r"] = "\\r",
  ['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/", ["\127"] = "\\u007f",
}
for code = 0, 31 do
  ESCAPES[char(code)] = ESCAPES[char(code)] or format("\\u%04x", code)
end

local function refuse(value, reason) fail("Cannot serialise %s: %s", type(value), reason) end

local function invalid_number(number, allowed)
  if allowed == "null" then return "null" end
  if not allowed then refuse(number, "must not be NaN or Infinity") end
  return number ~= number and "NaN" or number > 0 and "Infinity" or "-Infinity"
end

local function number_text(number, options)
  if number ~= number or number == huge or number == -huge then
    return invalid_number(number, options.invalid_numbers)
  end
  if number % 1 == 0 and number >= -2 ^ 53 and number <= 2 ^ 53 then
    return format("%.0f", number)
  end
  return format(options.number_format, number)
end

-- The length of a table that is an array by its keys, or nil.
local function array_length(array, options)
  local items, length = 0, 0
  for key in next, array do
    if type(key) ~= "number" or key < 1 or key % 1 ~= 0 then return nil end
    items = items + 1
    if key > length then length = key end
  end
  local ratio = options.sparse_ratio
  if ratio > 0 and length > items * ratio and length > options.sparse_safe then
    if not options.sparse_convert then refuse(array, "excessively sparse array") end
    return nil
  end
  return length
end

-- The encoder's parts append pieces to `out` behind the n-th and answer the new n. `out.size`
-- counts the bytes of strings only: with n it is a lower bound of the length, kept at little cost.
local write

local function quoted(text, out)
  local size = out.size + #text
  if size > out.limit then fail("Cannot serialise, more than %d bytes", out.limit) end
  out.size = size
  if find(text, out.special) then text = gsub(text, out.special, ESCAPES) end
  return '"' .. text .. '"'
end

local function write_array(array, length, out, n, depth)
  local plain = getmetatable(array) == nil -- or __index could be called for a hole
  out[n + 1] = "["
  n = n + 1
  for index = 1, length do
    local item
    if plain then item = array[index] else item = rawget(array, index) end
    n = write(item, out, n, depth) + 1
    out[n] = ","
  end
  out[n] = "]"
  return n
end

local function key_text(key, out)
  if type(key) == "number" then return '"' .. number_text(key, out.options) .. '":' end
  if type(key) ~= "string" then refuse(key, "table key must be a number or string") end
  return quoted(key, out) .. ":"
end

local function write_object(object, out, n, depth)
  out[n + 1] = "{"
  n = n + 1
  for key, item in next, object do
    out[n + 1] = key_text(key, out)
    n = write(item, out, n + 1, depth) + 1
    out[n] = ","
  end
  out[n] = "}"
  return n
end

local function empty_text(metatable, options)
  local array = metatable == array_mt or metatable == empty_array_mt
  return (array or not options.empty_as_object) and "[]" or "{}"
end

local function write_table(value, out, n, depth)
  local options = out.options
  if depth > options.encode_max_depth then fail("Cannot serialise, excessive depth (%d)", depth) end
  if n + out.size > out.limit then fail("Cannot serialise, more than %d bytes", out.limit) end

  local metatable = getmetatable(value)
  if next(value) == nil then
    out[n + 1] = empty_text(metatable, options)
    return n + 1
  end
  local length
  if metatable == array_mt then length = #value else length = array_length(value, options) end
  if not length then return write_object(value, out, n, depth) end
  if length == 0 then
    out[n + 1] = "[]"
    return n + 1
  end
  return write_array(value, length, out, n, depth)
end

-- Whatever has one piece.
local function scalar_text(value, kind, out)
  if kind == "string" then return quoted(value, out) end
  if kind == "number" then return number_text(value, out.options) end
  if kind == "boolean" then return value and "true" or "false" end
  if value == nil or value == null then return "null" end
  if value == empty_array then return "[]" end
  return refuse(value, "type not supported")
end

function write(value, out, n, depth)
  local kind = type(value)
  if kind == "table" then return write_table(value, out, n, depth + 1) end
  out[n + 1] = scalar_text(value, kind, out)
  return n + 1
end

local function encode(value, options, max_bytes)
  local out = {
    limit = max_bytes or huge,
    options = options,
    size = 0,
    special = options.escape_slash and '[%c"\\/]' or '[%c"\\]',
  }
  write(value, out, 0, 0)
  local text = concat(out)
  if #text > out.limit then fail("Cannot serialise, more than %d bytes", max_bytes) end
  return text
end

-- Decoding ----------------------------------------------------------------------------------------

local QUOTE, BACKSLASH, MINUS, COMMA, COLON = 34, 92, 45, 44, 58
local ARRAY, ARRAY_END, OBJECT, OBJECT_END, ZERO, NINE = 91, 93, 123, 125, 48, 57
local STRING_MARK = '["\\%z\1-\31]' -- where the plain part of a string ends
local UNESCAPED = {
  ['"'] = '"', ["\\"] = "\\", ["/"] = "/",
  b = "\b", f = "\f", n = "\n", r = "\r", t = "\t",
}
local LITERALS = { [102] = "false", [110] = "null", [116] = "true" } -- by their first byte
local VALUES = { ["false"] = false, ["null"] = null, ["true"] = true }
local MARKS = {
  [ARRAY] = "T_ARR_BEGIN", [ARRAY_END] = "T_ARR_END", [COLON] = "T_COLON", [COMMA] = "T_COMMA",
  [OBJECT] = "T_OBJ_BEGIN", [OBJECT_END] = "T_OBJ_END", [QUOTE] = "T_STRING",
}

local function expected(what, found, at)
  fail("Expected %s but found %s at character %d", what, found, at)
end

-- The next position that is not blank, and its byte: nil at the end.
local function skip_blanks(text, at)
  local mark = byte(text, at)
  if mark and mark > 32 then return at, mark end
  at = find(text, "[^ \t\r\n]", at) or #text + 1
  return at, byte(text, at)
end

local function utf8(code)
  if code < 0x80 then return char(code) end
  local last = 0x80 + code % 64
  code = floor(code / 64)
  if code < 0x20 then return char(0xc0 + code, last) end
  local third = 0x80 + code % 64
  code = floor(code / 64)
  if code < 0x10 then return char(0xe0 + code, third, last) end
  return char(0xf0 + floor(code / 64), 0x80 + code % 64, third, last)
end

local function code_unit(text, at)
  local digits = match(text, "^\\u(%x%x%x%x)", at)
  return digits and tonumber(digits, 16) or -1
end

-- What the escape at this backslash stands for, and the position behind it.
local function unescape(text, at, what)
  local letter = sub(text, at + 1, at + 1)
  if letter ~= "u" then
    if not UNESCAPED[letter] then expected(what, "invalid escape code", at) end
    return UNESCAPED[letter], at + 2
  end
  local high = code_unit(text, at)
  if high >= 0 and (high < 0xd800 or high > 0xdfff) then return utf8(high), at + 6 end
  local low = code_unit(text, at + 6)
  if high < 0xd800 or high > 0xdbff or low < 0xdc00 or low > 0xdfff then
    expected(what, "invalid unicode escape code", at)
  end
  return utf8(0x10000 + (high - 0xd800) * 0x400 + low - 0xdc00), at + 12
end

local function escaped_string(text, at, what)
  local parts, n = {}, 0
  while true do
    local stop = find(text, STRING_MARK, at)
    if not stop then expected(what, "unexpected end of string", #text + 1) end
    local mark = byte(text, stop)
    parts[n + 1] = sub(text, at, stop - 1)
    if mark == QUOTE then return concat(parts), stop + 1 end
    if mark ~= BACKSLASH then expected(what, "invalid control character", stop) end
    parts[n + 2], at = unescape(text, stop, what)
    n = n + 2
  end
end

-- The string whose opening quote is before `at`, and the position behind it.
local function read_string(text, at, what)
  local stop = find(text, STRING_MARK, at)
  if stop and byte(text, stop) == QUOTE then return sub(text, at, stop - 1), stop + 1 end
  return escaped_string(text, at, what)
end

local function read_number(text, at, what)
  local token = match(text, "^[%w.+-]+", at)
  local valid = find(token, "^-?%d+$") or find(token, "^-?%d+%.%d+$")
    or find(token, "^-?%d+[eE][+-]?%d+$") or find(token, "^-?%d+%.%d+[eE][+-]?%d+$")
  if not valid or find(token, "^-?0%d") then expected(what, "invalid number", at) end
  return tonumber(token), at + #token
end

local function is_number(mark) return mark == MINUS or mark >= ZERO and mark <= NINE end

-- A token that is wrong where it stands, in lua-cjson's words.
local function unexpected(text, at, what)
  local mark = byte(text, at)
  if not mark then expected(what, "T_END", at) end
  local name = MARKS[mark]
  local literal = match(text, "^%a+", at)
  if literal == "null" then
    name = "T_NULL"
  elseif literal == "true" or literal == "false" then
    name = "T_BOOLEAN"
  elseif is_number(mark) then
    read_number(text, at, what)
    name = "T_NUMBER"
  elseif mark == QUOTE then
    read_string(text, at + 1, what)
  end
  expected(what, name or "invalid token", at)
end

local read

local function check_depth(options, depth, at)
  if depth > options.decode_max_depth then
    fail("Found too many nested data structures (%d) at character %d", depth, at)
  end
end

local function read_array(text, at, depth, options)
  check_depth(options, depth, at)
  local array, n, mark = {}, 0, nil
  if options.array_with_mt then setmetatable(array, array_mt) end
  local first, peeked = skip_blanks(text, at + 1)
  if peeked == ARRAY_END then return array, first + 1 end
  repeat
    n = n + 1
    array[n], at = read(text, at + 1, depth, options)
    at, mark = skip_blanks(text, at)
  until mark ~= COMMA
  if mark ~= ARRAY_END then unexpected(text, at, "comma or array end") end
  return array, at + 1
end

local function read_key(text, at)
  local mark, key
  at, mark = skip_blanks(text, at)
  if mark ~= QUOTE then unexpected(text, at, "object key string") end
  key, at = read_string(text, at + 1, "object key string")
  at, mark = skip_blanks(text, at)
  if mark ~= COLON then unexpected(text, at, "colon") end
  return key, at + 1
end

local function read_object(text, at, depth, options)
  check_depth(options, depth, at)
  local object, key, mark = {}, nil, nil
  local first, peeked = skip_blanks(text, at + 1)
  if peeked == OBJECT_END then return object, first + 1 end
  repeat
    key, at = read_key(text, at + 1)
    object[key], at = read(text, at, depth, options)
    at, mark = skip_blanks(text, at)
  until mark ~= COMMA
  if mark ~= OBJECT_END then unexpected(text, at, "comma or object end") end
  return object, at + 1
end

local function read_literal(text, at, literal)
  if not literal or sub(text, at, at + #literal - 1) ~= literal then
    unexpected(text, at, "value")
  end
  return VALUES[literal], at + #literal
end

function read(text, at, depth, options)
  local mark
  at, mark = skip_blanks(text, at)
  if mark == QUOTE then return read_string(text, at + 1, "value") end
  if mark == OBJECT then return read_object(text, at, depth + 1, options) end
  if mark == ARRAY then return read_array(text, at, depth + 1, options) end
  if mark and is_number(mark) then return read_number(text, at, "value") end
  return read_literal(text, at, LITERALS[mark or 0])
end

local function textual(text)
  if type(text) == "number" then return tostring(text) end
  if type(text) == "string" then return text end
  return fail("bad argument #1 to 'decode' (string expected, got %s)", type(text))
end

local function decode(text, options)
  text = textual(text)
  local value, at = read(text, 1, 0, options)
  at = skip_blanks(text, at)
  if at <= #text then unexpected(text, at, "the end") end
  return value
end

-- Codecs ------------------------------------------------------------------------------------------

local function new(changes)
  local options = {}
  for name, value in next, DEFAULTS do options[name] = value end
  for name, value in next, changes do options[name] = value end

  local codec = { options = options }
  function codec.safe_encode(value, max_bytes)
    return caught(pcall(encode, value, options, max_bytes))
  end
  function codec.safe_decode(text) return caught(pcall(decode, text, options)) end
  function codec.encode(value, max_bytes)
    local text, problem = caught(pcall(encode, value, options, max_bytes))
    if problem then error(problem, 2) end
    return text
  end
  function codec.decode(text)
    local value, problem = caught(pcall(decode, text, options))
    if problem then error(problem, 2) end
    return value
  end
  return codec
end

local json = new({})
json.null, json.empty_array = null, empty_array
json.array_mt, json.empty_array_mt = array_mt, empty_array_mt
json.new = new
return json
