-- ngx.base64 of OpenResty: base64 with the alphabet for URLs, without padding.

local tools = ...

local error, type = error, type
local base64 = tools.require("internal.base64")
local encode_url, decode_url = base64.encode_url, base64.decode_url

local module = {}

function module.encode_base64url(text)
  if type(text) ~= "string" then error("must provide a string", 2) end
  return encode_url(text)
end

function module.decode_base64url(text)
  if type(text) ~= "string" then error("must provide a string", 2) end
  local decoded = decode_url(text)
  if not decoded then return nil, "invalid input" end
  return decoded
end

return module
