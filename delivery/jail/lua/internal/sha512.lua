-- SHA-512 (RFC 6234), as a digest: see internal/digest.lua. variant() serves SHA-384.
--
-- A word of 64 bits is two of 32: the high one, then the low one. In rotations "near" is the half
-- that is asked for and "far" the other one, so the same function gives both halves.

local tools = ...

local byte, floor = string.byte, math.floor
local bit, define = tools.require("bit"), tools.require("internal.digest").define
local band, bor, bxor, lshift, rshift = bit.band, bit.bor, bit.bxor, bit.lshift, bit.rshift
local tobit = bit.tobit

local WORD = 2 ^ 32

-- The first 64 bits behind the point of the cube roots of the first 80 primes.
local ROOTS = {
  0x428a2f98, 0xd728ae22, 0x71374491, 0x23ef65cd, 0xb5c0fbcf, 0xec4d3b2f, 0xe9b5dba5, 0x8189dbbc,
  0x3956c25b, 0xf348b538, 0x59f111f1, 0xb605d019, 0x923f82a4, 0xaf194f9b, 0xab1c5ed5, 0xda6d8118,
  0xd807aa98, 0xa3030242, 0x12835b01, 0x45706fbe, 0x243185be, 0x4ee4b28c, 0x550c7dc3, 0xd5ffb4e2,
  0x72be5d74, 0xf27b896f, 0x80deb1fe, 0x3b1696b1, 0x9bdc06a7, 0x25c71235, 0xc19bf174, 0xcf692694,
  0xe49b69c1, 0x9ef14ad2, 0xefbe4786, 0x384f25e3, 0x0fc19dc6, 0x8b8cd5b5, 0x240ca1cc, 0x77ac9c65,
  0x2de92c6f, 0x592b0275, 0x4a7484aa, 0x6ea6e483, 0x5cb0a9dc, 0xbd41fbd4, 0x76f988da, 0x831153b5,
  0x983e5152, 0xee66dfab, 0xa831c66d, 0x2db43210, 0xb00327c8, 0x98fb213f, 0xbf597fc7, 0xbeef0ee4,
  0xc6e00bf3, 0x3da88fc2, 0xd5a79147, 0x930aa725, 0x06ca6351, 0xe003826f, 0x14292967, 0x0a0e6e70,
  0x27b70a85, 0x46d22ffc, 0x2e1b2138, 0x5c26c926, 0x4d2c6dfc, 0x5ac42aed, 0x53380d13, 0x9d95b3df,
  0x650a7354, 0x8baf63de, 0x766a0abb, 0x3c77b2a8, 0x81c2c92e, 0x47edaee6, 0x92722c85, 0x1482353b,
  0xa2bfe8a1, 0x4cf10364, 0xa81a664b, 0xbc423001, 0xc24b8b70, 0xd0f89791, 0xc76c51a3, 0x0654be30,
  0xd192e819, 0xd6ef5218, 0xd6990624, 0x5565a910, 0xf40e3585, 0x5771202a, 0x106aa070, 0x32bbd1b8,
  0x19a4c116, 0xb8d2d0c8, 0x1e376c08, 0x5141ab53, 0x2748774c, 0xdf8eeb99, 0x34b0bcb5, 0xe19b48a8,
  0x391c0cb3, 0xc5c95a63, 0x4ed8aa4a, 0xe3418acb, 0x5b9cca4f, 0x7763e373, 0x682e6ff3, 0xd6b2b8a3,
  0x748f82ee, 0x5defb2fc, 0x78a5636f, 0x43172f60, 0x84c87814, 0xa1f0ab72, 0x8cc70208, 0x1a6439ec,
  0x90befffa, 0x23631e28, 0xa4506ceb, 0xde82bde9, 0xbef9a3f7, 0xb2c67915, 0xc67178f2, 0xe372532b,
  0xca273ece, 0xea26619c, 0xd186b8c7, 0x21c0c207, 0xeada7dd6, 0xcde0eb1e, 0xf57d4f7f, 0xee6ed178,
  0x06f067aa, 0x72176fba, 0x0a637dc5, 0xa2c898a6, 0x113f9804, 0xbef90dae, 0x1b710b35, 0x131c471b,
  0x28db77f5, 0x23047d84, 0x32caab7b, 0x40c72493, 0x3c9ebe0a, 0x15c9bebc, 0x431d67c4, 0x9c100d4c,
  0x4cc5d4be, 0xcb3e42b6, 0x597f299c, 0xfc657e2a, 0x5fcb6fab, 0x3ad6faec, 0x6c44198c, 0x4a475817,
}

local highs, lows = {}, {} -- the schedule

local function turned(near, far, count)
  return bor(rshift(near, count), lshift(far, 32 - count))
end

-- By 28, 34 and 39 bits.
local function turned_a(near, far)
  return bxor(turned(near, far, 28), turned(far, near, 2), turned(far, near, 7))
end

-- By 14, 18 and 41 bits.
local function turned_e(near, far)
  return bxor(turned(near, far, 14), turned(near, far, 18), turned(far, near, 9))
end

local function load(text, at)
  for index = 1, 32 do
    local first, second, third, fourth = byte(text, at, at + 3)
    local half = first * 16777216 + second * 65536 + third * 256 + fourth
    if index % 2 == 1 then highs[(index + 1) / 2] = half else lows[index / 2] = half end
    at = at + 4
  end
end

local function extend()
  for index = 17, 80 do
    local high, low = highs[index - 15], lows[index - 15]
    local early_high = bxor(turned(high, low, 1), turned(high, low, 8), rshift(high, 7))
    local early_low = bxor(turned(low, high, 1), turned(low, high, 8), turned(low, high, 7))
    high, low = highs[index - 2], lows[index - 2]
    local late_high = bxor(turned(high, low, 19), turned(low, high, 29), rshift(high, 6))
    local late_low = bxor(turned(low, high, 19), turned(high, low, 29), turned(low, high, 6))
    low = early_low % WORD + late_low % WORD + lows[index - 16] % WORD + lows[index - 7] % WORD
    highs[index] = tobit(early_high + late_high + highs[index - 16] + highs[index - 7]
      + floor(low / WORD))
    lows[index] = tobit(low)
  end
end

-- Words are a, a's low half, b, b's low half and so on; this answers the halves of the new a and
-- of what is added to d.
local function step(index, words)
  local a, al, b, bl, c, cl = words[1], words[2], words[3], words[4], words[5], words[6]
  local e, el, f, fl, g, gl = words[9], words[10], words[11], words[12], words[13], words[14]
  local low = words[16] % WORD + turned_e(el, e) % WORD + bxor(gl, band(el, bxor(fl, gl))) % WORD
    + ROOTS[2 * index] + lows[index] % WORD
  local high = words[15] + turned_e(e, el) + bxor(g, band(e, bxor(f, g)))
    + ROOTS[2 * index - 1] + highs[index] + floor(low / WORD)
  low = low % WORD
  local sum = low + turned_a(al, a) % WORD + bor(band(al, bl), band(cl, bor(al, bl))) % WORD
  return tobit(high + turned_a(a, al) + bor(band(a, b), band(c, bor(a, b))) + floor(sum / WORD)),
    tobit(sum), high, low
end

-- Moves all words on by one; the last drops out.
local function moved(words, a, al)
  for index = 16, 3, -1 do words[index] = words[index - 2] end
  words[1], words[2] = a, al
end

local function compress(words, text, at)
  load(text, at)
  extend()
  local mixed = {}
  for index = 1, 16 do mixed[index] = words[index] end
  for index = 1, 80 do
    local a, al, high, low = step(index, mixed)
    moved(mixed, a, al)
    local sum = mixed[10] % WORD + low
    mixed[9], mixed[10] = tobit(mixed[9] + high + floor(sum / WORD)), tobit(sum)
  end
  for index = 1, 16, 2 do
    local sum = words[index + 1] % WORD + mixed[index + 1] % WORD
    words[index] = tobit(words[index] + mixed[index] + floor(sum / WORD))
    words[index + 1] = tobit(sum)
  end
end

local function variant(size, initial)
  return define({
    block = 128, size = size, length_size = 16, initial = initial, compress = compress,
  })
end

local sha512 = variant(64, {
  0x6a09e667, 0xf3bcc908, 0xbb67ae85, 0x84caa73b, 0x3c6ef372, 0xfe94f82b, 0xa54ff53a, 0x5f1d36f1,
  0x510e527f, 0xade682d1, 0x9b05688c, 0x2b3e6c1f, 0x1f83d9ab, 0xfb41bd6b, 0x5be0cd19, 0x137e2179,
})
sha512.variant = variant
return sha512
