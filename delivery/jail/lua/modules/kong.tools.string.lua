-- kong.tools.string: strip, split, splitn, replace_dashes, replace_dashes_lower.

local tools = ...

local gsub, lower, tostring = string.gsub, string.lower, tostring
local split, strip = tools.require("internal.split"), tools.require("internal.strip")

local module = {}

function module.strip(value)
  if value == nil then return "" end
  return strip(tostring(value), true, true)
end

function module.split(text, separator) return split(text, separator) end

function module.splitn(text, separator, max) return split(text, separator, max) end

function module.replace_dashes(text) return (gsub(text, "-", "_")) end

function module.replace_dashes_lower(text) return (gsub(lower(text), "-", "_")) end

return module
