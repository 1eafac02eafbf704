-- Base64 of strings: encode(text[, no_padding]), decode(text), encode_url(text), decode_url(text).
--
-- Decoding takes what nginx takes: padding may be missing, and what follows the first "=" does not
-- matter. It answers nil for any other text that is not base64.

local byte, char, find, rep, sub = string.byte, string.char, string.find, string.rep, string.sub
local concat, floor = table.concat, math.floor

local LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

local PAD = -1 -- no letter

local function alphabet(last)
  local letters, values, text = {}, { [PAD] = 0 }, LETTERS .. last
  for value = 0, 63 do
    letters[value] = byte(text, value + 1)
    values[letters[value]] = value
  end
  return { letters = letters, values = values }
end

local STANDARD, URL = alphabet("+/"), alphabet("-_")

local function four(letters, first, second, third)
  local bits = first * 65536 + second * 256 + third
  local low, middle = bits % 64, floor(bits / 64) % 64
  return char(letters[floor(bits / 262144)], letters[floor(bits / 4096) % 64],
    letters[middle], letters[low])
end

local function encoded(text, letters, padding)
  local parts, n, rest = {}, 0, #text % 3
  for at = 1, #text - rest, 3 do
    n = n + 1
    parts[n] = four(letters, byte(text, at, at + 2))
  end
  if rest > 0 then
    local first, second = byte(text, -rest, -1)
    parts[n + 1] = sub(four(letters, first, second or 0, 0), 1, rest + 1)
    parts[n + 2] = rep(padding, 3 - rest)
  end
  return concat(parts)
end

-- The value of four letters, of which the last two may be absent; nil if one is none of ours.
local function bits_of(values, first, second, third, fourth)
  local a, b, c, d = values[first], values[second], values[third or PAD], values[fourth or PAD]
  return a and b and c and d and a * 262144 + b * 4096 + c * 64 + d
end

local function three(bits)
  return char(floor(bits / 65536), floor(bits / 256) % 256, bits % 256)
end

local function decoded(text, values)
  local stop = find(text, "=", 1, true)
  if stop then text = sub(text, 1, stop - 1) end
  local parts, n, rest = {}, 0, #text % 4
  if rest == 1 then return nil end
  for at = 1, #text, 4 do
    local bits = bits_of(values, byte(text, at, at + 3))
    if not bits then return nil end
    n = n + 1
    parts[n] = three(bits)
  end
  if rest > 0 then parts[n] = sub(parts[n], 1, rest - 1) end
  return concat(parts)
end

local base64 = {}

function base64.encode(text, no_padding)
  return encoded(text, STANDARD.letters, no_padding and "" or "=")
end

function base64.decode(text) return decoded(text, STANDARD.values) end

function base64.encode_url(text) return encoded(text, URL.letters, "") end

function base64.decode_url(text) return decoded(text, URL.values) end

return base64
