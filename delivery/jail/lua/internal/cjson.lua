-- What makes an instance of cjson, or of cjson.safe: see json.lua for what they promise. As in
-- lua-cjson "/" is written as "\/" by default, and the settings are functions that change one if
-- told to, and answer it. Each instance has its own.

local tools = ...

local error, format, next = error, string.format, next
local tonumber, tostring = tonumber, tostring
local json = tools.json

local MOST = 2 ^ 31 - 1
local FLAGS = { on = true, off = false, [true] = true, [false] = false }

local function integer(value, least, most, position)
  local number = tonumber(value)
  if not number or number < least or number > most or number % 1 ~= 0 then
    error(format("bad argument #%d (expected integer between %d and %d)", position, least, most), 3)
  end
  return number
end

-- `other` is what is allowed beside true and false.
local function flag(value, other)
  if value == other then return other end
  if FLAGS[value] == nil then
    error("bad argument #1 (invalid option '" .. tostring(value) .. "')", 3)
  end
  return FLAGS[value]
end

local function flag_setter(options, name, other)
  return function(value)
    if value ~= nil then options[name] = flag(value, other) end
    return options[name]
  end
end

local function depth_setter(options, name)
  return function(value)
    if value ~= nil then options[name] = integer(value, 1, MOST, 1) end
    return options[name]
  end
end

local function precision_setter(options)
  local precision = 14
  return function(value)
    if value ~= nil then
      precision = integer(value, 1, 16, 1)
      options.number_format = format("%%.%dg", precision)
    end
    return precision
  end
end

local function sparse_setter(options)
  return function(convert, ratio, safe)
    if convert ~= nil then options.sparse_convert = flag(convert) end
    if ratio ~= nil then options.sparse_ratio = integer(ratio, 0, MOST, 2) end
    if safe ~= nil then options.sparse_safe = integer(safe, 0, MOST, 3) end
    return options.sparse_convert, options.sparse_ratio, options.sparse_safe
  end
end

-- JSON only: to claim that more is read would be worse than to refuse the setting.
local function decode_invalid_numbers(value)
  if value and value ~= "off" then error("decode_invalid_numbers is not supported", 2) end
  return false
end

local CONSTANTS = {
  _NAME = "cjson",
  _VERSION = "2.1.0",
  array_mt = json.array_mt,
  empty_array = json.empty_array,
  empty_array_mt = json.empty_array_mt,
  null = json.null,
}

local function instance(safe)
  local codec = json.new({ escape_slash = true })
  local options = codec.options
  local cjson = {
    encode = safe and codec.safe_encode or codec.encode,
    decode = safe and codec.safe_decode or codec.decode,
    decode_array_with_array_mt = flag_setter(options, "array_with_mt"),
    decode_invalid_numbers = decode_invalid_numbers,
    decode_max_depth = depth_setter(options, "decode_max_depth"),
    encode_empty_table_as_object = flag_setter(options, "empty_as_object"),
    encode_escape_forward_slash = flag_setter(options, "escape_slash"),
    encode_invalid_numbers = flag_setter(options, "invalid_numbers", "null"),
    encode_keep_buffer = function() return true end, -- there is none: a question of speed only
    encode_max_depth = depth_setter(options, "encode_max_depth"),
    encode_number_precision = precision_setter(options),
    encode_sparse_array = sparse_setter(options),
    new = function() return instance(safe) end,
  }
  for name, value in next, CONSTANTS do cjson[name] = value end
  return cjson
end

return instance
