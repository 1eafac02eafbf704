-- SHA-256 (RFC 6234), as a digest: see internal/digest.lua. variant() serves SHA-224.

local tools = ...

local byte, floor = string.byte, math.floor
local bit, define = tools.require("bit"), tools.require("internal.digest").define
local band, bor, bxor, ror, rshift = bit.band, bit.bor, bit.bxor, bit.ror, bit.rshift
local tobit = bit.tobit

local function is_prime(number)
  for divisor = 2, number - 1 do
    if number % divisor == 0 then return false end
  end
  return true
end

-- The first 32 bits behind the point of the cube roots of the first 64 primes.
local ROOTS = {}
do
  local number = 2
  while #ROOTS < 64 do
    if is_prime(number) then ROOTS[#ROOTS + 1] = floor(number ^ (1 / 3) % 1 * 2 ^ 32) end
    number = number + 1
  end
end

local schedule = {}

local function load(text, at)
  for index = 1, 16 do
    local first, second, third, fourth = byte(text, at, at + 3)
    schedule[index] = first * 16777216 + second * 65536 + third * 256 + fourth
    at = at + 4
  end
  for index = 17, 64 do
    local early, late = schedule[index - 15], schedule[index - 2]
    schedule[index] = tobit(schedule[index - 16] + schedule[index - 7]
      + bxor(ror(early, 7), ror(early, 18), rshift(early, 3))
      + bxor(ror(late, 17), ror(late, 19), rshift(late, 10)))
  end
end

local function rounds(a, b, c, d, e, f, g, h)
  for step = 1, 64 do
    local first = h + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(g, band(e, bxor(f, g)))
      + ROOTS[step] + schedule[step]
    local second = bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + bor(band(a, b), band(c, bor(a, b)))
    h, g, f, e, d, c, b, a = g, f, e, tobit(d + first), c, b, a, tobit(first + second)
  end
  return a, b, c, d, e, f, g, h
end

local function compress(words, text, at)
  load(text, at)
  local a, b, c, d, e, f, g, h = words[1], words[2], words[3], words[4], words[5], words[6],
    words[7], words[8]
  a, b, c, d, e, f, g, h = rounds(a, b, c, d, e, f, g, h)
  words[1], words[2], words[3] = tobit(words[1] + a), tobit(words[2] + b), tobit(words[3] + c)
  words[4], words[5], words[6] = tobit(words[4] + d), tobit(words[5] + e), tobit(words[6] + f)
  words[7], words[8] = tobit(words[7] + g), tobit(words[8] + h)
end

local function variant(size, initial)
  return define({
    block = 64, size = size, length_size = 8, initial = initial, compress = compress,
  })
end

local sha256 = variant(32, {
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
})
sha256.variant = variant
return sha256
