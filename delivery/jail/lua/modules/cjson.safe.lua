-- cjson.safe: encode and decode answer nil and what is wrong. See internal/cjson.lua.

local tools = ...

return tools.require("internal.cjson")(true)
