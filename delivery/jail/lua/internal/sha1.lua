-- SHA-1 (RFC 3174), as a digest: see internal/digest.lua.

local tools = ...

local byte = string.byte
local bit, define = tools.require("bit"), tools.require("internal.digest").define
local band, bor, bxor, rol, tobit = bit.band, bit.bor, bit.bxor, bit.rol, bit.tobit

local schedule = {}

local function load(text, at)
  for index = 0, 15 do
    local first, second, third, fourth = byte(text, at, at + 3)
    schedule[index] = first * 16777216 + second * 65536 + third * 256 + fourth
    at = at + 4
  end
  for index = 16, 79 do
    schedule[index] = rol(bxor(schedule[index - 3], schedule[index - 8], schedule[index - 14],
      schedule[index - 16]), 1)
  end
end

local function mixed(step, b, c, d)
  if step < 20 then return bxor(d, band(b, bxor(c, d))) + 0x5a827999 end
  if step < 40 then return bxor(b, c, d) + 0x6ed9eba1 end
  if step < 60 then return bor(band(b, c), band(d, bor(b, c))) + 0x8f1bbcdc end
  return bxor(b, c, d) + 0xca62c1d6
end

local function compress(words, text, at)
  load(text, at)
  local a, b, c, d, e = words[1], words[2], words[3], words[4], words[5]
  for step = 0, 79 do
    local sum = tobit(rol(a, 5) + mixed(step, b, c, d) + e + schedule[step])
    a, b, c, d, e = sum, a, rol(b, 30), c, d
  end
  words[1], words[2], words[3] = tobit(words[1] + a), tobit(words[2] + b), tobit(words[3] + c)
  words[4], words[5] = tobit(words[4] + d), tobit(words[5] + e)
end

return define({
  block = 64,
  size = 20,
  length_size = 8,
  initial = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0 },
  compress = compress,
})
