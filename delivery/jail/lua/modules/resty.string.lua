-- resty.string: to_hex(text) in lower case, and atoi(text), 0 if it does not start with an integer.

local char, error, format, gsub = string.char, error, string.format, string.gsub
local match, tonumber, type = string.match, tonumber, type

local HEX = {}
for code = 0, 255 do HEX[char(code)] = format("%02x", code) end

local module = {}

function module.to_hex(text)
  if type(text) ~= "string" then
    error("bad argument #1 to 'to_hex' (string expected, got " .. type(text) .. ")", 2)
  end
  return (gsub(text, ".", HEX))
end

function module.atoi(text) return tonumber(match(text, "^%s*([+-]?%d+)")) or 0 end

return module
