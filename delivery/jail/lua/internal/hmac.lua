-- HMAC (RFC 2104): hmac(digest, key, text) with any digest of internal/digest.lua, as bytes.

local tools = ...

local char, gsub, rep = string.char, string.gsub, string.rep
local bxor = tools.require("bit").bxor

local INNER, OUTER = {}, {}
for code = 0, 255 do
  INNER[char(code)], OUTER[char(code)] = char(bxor(code, 0x36)), char(bxor(code, 0x5c))
end

local function pad(key, bytes) return (gsub(key, ".", bytes)) end

return function(digest, key, text)
  if #key > digest.block then key = digest.sum(key) end
  key = key .. rep("\0", digest.block - #key)
  return digest.sum(pad(key, OUTER) .. digest.sum(pad(key, INNER) .. text))
end
