-- MD5 (RFC 1321), as a digest: see internal/digest.lua.

local tools = ...

local abs, byte, floor, sin = math.abs, string.byte, math.floor, math.sin
local bit, define = tools.require("bit"), tools.require("internal.digest").define
local band, bnot, bor, bxor, rol = bit.band, bit.bnot, bit.bor, bit.bxor, bit.rol
local tobit = bit.tobit

local SINES, TURNS, WORDS = {}, {}, {} -- of each step
local TURN = { { 7, 12, 17, 22 }, { 5, 9, 14, 20 }, { 4, 11, 16, 23 }, { 6, 10, 15, 21 } }
local STRIDE, START = { 1, 5, 3, 7 }, { 0, 1, 5, 0 }
for step = 0, 63 do
  local round = floor(step / 16) + 1
  SINES[step] = floor(abs(sin(step + 1)) * 2 ^ 32)
  TURNS[step] = TURN[round][step % 4 + 1]
  WORDS[step] = (step * STRIDE[round] + START[round]) % 16
end

local block = {}

local function load(text, at)
  for index = 0, 15 do
    local first, second, third, fourth = byte(text, at, at + 3)
    block[index] = first + second * 256 + third * 65536 + fourth * 16777216
    at = at + 4
  end
end

local function mixed(step, b, c, d)
  if step < 16 then return bxor(d, band(b, bxor(c, d))) end
  if step < 32 then return bxor(c, band(d, bxor(b, c))) end
  if step < 48 then return bxor(b, c, d) end
  return bxor(c, bor(b, bnot(d)))
end

local function compress(words, text, at)
  load(text, at)
  local a, b, c, d = words[1], words[2], words[3], words[4]
  for step = 0, 63 do
    local sum = a + mixed(step, b, c, d) + SINES[step] + block[WORDS[step]]
    a, d, c, b = d, c, b, tobit(b + rol(sum, TURNS[step]))
  end
  words[1], words[2] = tobit(words[1] + a), tobit(words[2] + b)
  words[3], words[4] = tobit(words[3] + c), tobit(words[4] + d)
end

return define({
  block = 64,
  size = 16,
  length_size = 8,
  little_endian = true,
  initial = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476 },
  compress = compress,
})
