-- LuaJIT's bit operations, and the same in plain Lua where the virtual machine has none.
--
-- Numbers are taken modulo 2^32, results are signed, of counts the low five bits matter. The table
-- is a new one: what is done to it does not reach the virtual machine's own.

local error, floor, format, next, select = error, math.floor, string.format, next, select
local min, rep, sub, upper = math.min, string.rep, string.sub, string.upper
local tonumber, type = tonumber, type
local native = bit

if native then
  local copy = {}
  for name, operation in next, native do copy[name] = operation end
  return copy
end

local WORD, HALF = 2 ^ 32, 2 ^ 31
local ROUNDING = 2 ^ 52 + 2 ^ 51 -- numbers of this size have no fraction, so adding it rounds

local MOST_DIGITS = 254 -- of tohex: beyond the documented eight LuaJIT fills up with zeros

-- Six bits at a time: 4096 entries, where eight would take a megabyte.
local DIGIT = 64
local AND, OR, XOR = {}, {}, {}
for left = 0, DIGIT - 1 do
  for right = 0, DIGIT - 1 do
    local both, value, a, b = 0, 1, left, right
    for _ = 1, 6 do
      if a % 2 == 1 and b % 2 == 1 then both = both + value end
      a, b, value = floor(a / 2), floor(b / 2), value * 2
    end
    local at = left * DIGIT + right
    AND[at], OR[at], XOR[at] = both, left + right - both, left + right - 2 * both
  end
end

local function converted(value, name, position)
  local number = type(value) == "string" and tonumber(value)
  if number then return number end
  return error(format("bad argument #%d to '%s' (number expected, got %s)", position or 1, name,
    value == nil and "no value" or type(value)), 4)
end

local function unsigned(value, name, position)
  if type(value) ~= "number" then value = converted(value, name, position) end
  return (value + ROUNDING - ROUNDING) % WORD
end

local function signed(word)
  if word >= HALF then return word - WORD end
  return word
end

local function combined(left, right, digits)
  local word, value = 0, 1
  for _ = 1, 6 do
    local a, b = left % DIGIT, right % DIGIT
    word = word + digits[a * DIGIT + b] * value
    left, right, value = (left - a) / DIGIT, (right - b) / DIGIT, value * DIGIT
  end
  return word
end

local function combiner(name, digits)
  return function(first, second, third, ...)
    local word = unsigned(first, name)
    if second ~= nil then word = combined(word, unsigned(second, name, 2), digits) end
    if third ~= nil then word = combined(word, unsigned(third, name, 3), digits) end
    for index = 1, select("#", ...) do
      word = combined(word, unsigned(select(index, ...), name, index + 3), digits)
    end
    return signed(word)
  end
end

local fallback = {
  band = combiner("band", AND),
  bor = combiner("bor", OR),
  bxor = combiner("bxor", XOR),
}

function fallback.tobit(value) return signed(unsigned(value, "tobit")) end

function fallback.bnot(value) return signed(WORD - 1 - unsigned(value, "bnot")) end

function fallback.lshift(value, count)
  return signed(unsigned(value, "lshift") * 2 ^ (unsigned(count, "lshift", 2) % 32) % WORD)
end

function fallback.rshift(value, count)
  return signed(floor(unsigned(value, "rshift") / 2 ^ (unsigned(count, "rshift", 2) % 32)))
end

function fallback.arshift(value, count)
  return floor(signed(unsigned(value, "arshift")) / 2 ^ (unsigned(count, "arshift", 2) % 32))
end

local function rotated(word, count)
  local low = 2 ^ (32 - count)
  return signed(word % low * 2 ^ count + floor(word / low))
end

function fallback.rol(value, count)
  return rotated(unsigned(value, "rol"), unsigned(count, "rol", 2) % 32)
end

function fallback.ror(value, count)
  return rotated(unsigned(value, "ror"), -unsigned(count, "ror", 2) % 32)
end

function fallback.bswap(value)
  local word, swapped = unsigned(value, "bswap"), 0
  for _ = 1, 4 do
    local last = word % 256
    swapped, word = swapped * 256 + last, (word - last) / 256
  end
  return signed(swapped)
end

function fallback.tohex(value, digits)
  local text = format("%08x", unsigned(value, "tohex"))
  local count = digits == nil and 8 or signed(unsigned(digits, "tohex", 2))
  if count < 0 then text, count = upper(text), -count end
  if count == 0 then return "" end
  return sub(rep("0", min(count, MOST_DIGITS) - 8) .. text, -count)
end

return fallback
