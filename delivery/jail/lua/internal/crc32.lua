-- CRC-32 as in zlib and ngx.crc32_long: crc32(text), from 0 to 2^32 - 1.

local tools = ...

local byte = string.byte
local bit = tools.require("bit")
local band, bxor, rshift = bit.band, bit.bxor, bit.rshift

local REMAINDERS = {}
for code = 0, 255 do
  local remainder = code
  for _ = 1, 8 do
    local odd = band(remainder, 1) == 1
    remainder = rshift(remainder, 1)
    if odd then remainder = bxor(remainder, 0xedb88320) end
  end
  REMAINDERS[code] = remainder
end

return function(text)
  local remainder = -1
  for at = 1, #text do
    remainder = bxor(rshift(remainder, 8), REMAINDERS[band(bxor(remainder, byte(text, at)), 255)])
  end
  return bxor(remainder, -1) % 2 ^ 32
end
