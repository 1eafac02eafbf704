-- pl.stringx: the usual functions of Penlight's, as its documentation describes them. Lists are
-- plain tables. Separators and replaced text are never patterns. Nothing is added to `string`.

local tools = ...

local byte, error, find, format = string.byte, error, string.find, string.format
local gsub, huge, lower, rep = string.gsub, math.huge, string.lower, string.rep
local concat, floor, next, sub = table.concat, math.floor, next, string.sub
local type, upper = type, string.upper
local split, strip = tools.require("internal.split"), tools.require("internal.strip")

local stringx = {}

local function check(value, position, kind)
  if type(value) ~= kind then
    error(format("argument %d expected a '%s' got a '%s'", position, kind, type(value)), 3)
  end
end

local function check_needle(value, position)
  if type(value) ~= "string" or value == "" then
    error(format("argument %d expected a non-empty string", position), 3)
  end
end

-- Tests -------------------------------------------------------------------------------------------

local CLASSES = {
  isalnum = "^%w+$", isalpha = "^%a+$", isdigit = "^%d+$",
  islower = "^[%l%s]+$", isspace = "^%s+$", isupper = "^[%u%s]+$",
}
for name, pattern in next, CLASSES do
  stringx[name] = function(text)
    check(text, 1, "string")
    return find(text, pattern) ~= nil
  end
end

local function starts(text, prefix) return sub(text, 1, #prefix) == prefix end

local function ends(text, suffix)
  return #suffix <= #text and sub(text, #text - #suffix + 1) == suffix
end

local function any(text, wanted, test)
  if type(wanted) == "string" then return test(text, wanted) end
  for index = 1, #wanted do
    if test(text, wanted[index]) then return true end
  end
  return false
end

-- `prefix` may be a list, of which any will do; so may `suffix`.
function stringx.startswith(text, prefix)
  check(text, 1, "string")
  if type(prefix) ~= "table" then check(prefix, 2, "string") end
  return any(text, prefix, starts)
end

function stringx.endswith(text, suffix)
  check(text, 1, "string")
  if type(suffix) ~= "table" then check(suffix, 2, "string") end
  return any(text, suffix, ends)
end

-- Finding -----------------------------------------------------------------------------------------

local function last_start(text, needle, first, last)
  local found
  local at = find(text, needle, first, true)
  while at and at + #needle - 1 <= last do
    found = at
    at = find(text, needle, at + 1, true)
  end
  return found
end

function stringx.lfind(text, needle, first, last)
  check(text, 1, "string")
  check_needle(needle, 2)
  local start, stop = find(text, needle, first, true)
  if start and stop <= (last or huge) then return start end
  return nil
end

function stringx.rfind(text, needle, first, last)
  check(text, 1, "string")
  check_needle(needle, 2)
  return last_start(text, needle, first or 1, last or huge)
end

function stringx.count(text, needle, overlapping)
  check(text, 1, "string")
  check_needle(needle, 2)
  local count, start, stop = 0, find(text, needle, 1, true)
  while start do
    count = count + 1
    start, stop = find(text, needle, overlapping and start + 1 or stop + 1, true)
  end
  return count
end

function stringx.at(text, index)
  check(text, 1, "string")
  check(index, 2, "number")
  return sub(text, index, index)
end

-- Taking apart and putting together ---------------------------------------------------------------

function stringx.split(text, separator, max)
  check(text, 1, "string")
  if text == "" then return {} end
  return split(text, separator, max)
end

local function end_of_line(text, at)
  local stop = find(text, "[\r\n]", at)
  if not stop then return nil end
  if byte(text, stop) == 13 and byte(text, stop + 1) == 10 then return stop, stop + 1 end
  return stop, stop
end

function stringx.splitlines(text, keep_ends)
  check(text, 1, "string")
  local lines, n, at = {}, 0, 1
  while at <= #text do
    local stop, last = end_of_line(text, at)
    stop, last, n = stop or #text + 1, last or #text, n + 1
    lines[n] = sub(text, at, keep_ends and last or stop - 1)
    at = last + 1
  end
  return lines
end

function stringx.lines(text)
  check(text, 1, "string")
  local lines, n = stringx.splitlines(text), 0
  return function()
    n = n + 1
    return lines[n]
  end
end

function stringx.join(separator, items)
  check(separator, 1, "string")
  check(items, 2, "table")
  return concat(items, separator)
end

-- What is before the first separator, the separator, what is behind it; text, "", "" without one.
function stringx.partition(text, separator)
  check(text, 1, "string")
  check_needle(separator, 2)
  local start, stop = find(text, separator, 1, true)
  if not start then return text, "", "" end
  return sub(text, 1, start - 1), separator, sub(text, stop + 1)
end

-- The same at the last separator; "", "", text without one.
function stringx.rpartition(text, separator)
  check(text, 1, "string")
  check_needle(separator, 2)
  local start = last_start(text, separator, 1, huge)
  if not start then return "", "", text end
  return sub(text, 1, start - 1), separator, sub(text, start + #separator)
end

-- Changing ----------------------------------------------------------------------------------------

function stringx.strip(text, characters)
  check(text, 1, "string")
  return strip(text, true, true, characters)
end

function stringx.lstrip(text, characters)
  check(text, 1, "string")
  return strip(text, true, false, characters)
end

function stringx.rstrip(text, characters)
  check(text, 1, "string")
  return strip(text, false, true, characters)
end

function stringx.replace(text, old, new, max)
  check(text, 1, "string")
  check_needle(old, 2)
  check(new, 3, "string")
  return concat(split(text, old, max and max + 1), new)
end

function stringx.title(text)
  check(text, 1, "string")
  return (gsub(text, "(%S)(%S*)", function(first, rest) return upper(first) .. lower(rest) end))
end

local function fill(width, filler)
  if width <= 0 or filler == "" then return "" end
  return rep(filler or " ", width)
end

function stringx.ljust(text, width, filler)
  check(text, 1, "string")
  check(width, 2, "number")
  return text .. fill(width - #text, filler)
end

function stringx.rjust(text, width, filler)
  check(text, 1, "string")
  check(width, 2, "number")
  return fill(width - #text, filler) .. text
end

function stringx.center(text, width, filler)
  check(text, 1, "string")
  check(width, 2, "number")
  local left = floor((width - #text) / 2)
  return fill(left, filler) .. text .. fill(width - #text - left, filler)
end

-- At most `width` bytes, with "..." for what was cut off at the end, or at the start with `tail`.
function stringx.shorten(text, width, tail)
  check(text, 1, "string")
  check(width, 2, "number")
  if #text <= width then return text end
  if width <= 3 then return sub("...", 1, width) end
  if tail then return "..." .. sub(text, #text - width + 4) end
  return sub(text, 1, width - 3) .. "..."
end

return stringx
