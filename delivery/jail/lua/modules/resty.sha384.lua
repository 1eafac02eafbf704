-- resty.sha384: new, update, final, reset. See internal/resty_digest.lua.

local tools = ...

return tools.require("internal.resty_digest")(tools.require("internal.sha384"))
