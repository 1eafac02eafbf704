-- kong.tools.uuid: uuid() makes a random one (version 4) and is_valid_uuid(text) knows any.
--
-- It is as random as math.random, which whoever made the state has seeded: unique enough for a
-- name, no secret.

local find, format, random, type = string.find, string.format, math.random, type

local module = {}

function module.uuid()
  return format("%04x%04x-%04x-4%03x-%04x-%04x%04x%04x", random(0, 65535), random(0, 65535),
    random(0, 65535), random(0, 4095), random(32768, 49151), random(0, 65535), random(0, 65535),
    random(0, 65535))
end

local FORM = "^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$"

function module.is_valid_uuid(text) return type(text) == "string" and find(text, FORM) ~= nil end

return module
