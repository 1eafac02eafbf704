-- cjson: encode and decode raise what is wrong. See internal/cjson.lua.

local tools = ...

return tools.require("internal.cjson")(false)
