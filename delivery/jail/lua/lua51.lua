-- What Lua 5.1 lacks of LuaJIT, for the platforms where LuaJIT does not exist.

local string_format, string_rep, log = string.format, string.rep, math.log
local gmatch, match, select, tostring, type = string.gmatch, string.match, select, tostring, type
local unpack = unpack

local SPECIFIER = "%%[%-+ #0]*%d*%.?%d*([%a%%])"

-- Lua 5.1 takes an hour to repeat nothing often enough.
function string.rep(text, count, separator)
  if separator and type(count) == "number" and count > 1 then
    return string_rep(text .. separator, count - 1) .. text
  end
  if text == "" then return text end
  return string_rep(text, count)
end

function string.format(pattern, ...)
  local count, arguments, index = select("#", ...), { ... }, 0
  if type(pattern) == "string" then
    for kind in gmatch(pattern, SPECIFIER) do
      if kind ~= "%" then index = index + 1 end
      if kind == "s" and index <= count then arguments[index] = tostring(arguments[index]) end
    end
  end
  return string_format(pattern, unpack(arguments, 1, count))
end

function math.log(number, base)
  if base then return log(number) / log(base) end
  return log(number)
end

return { arch = "other", os = "Other", version = match(_VERSION, "%S+ %S+"), version_num = 50100 }
