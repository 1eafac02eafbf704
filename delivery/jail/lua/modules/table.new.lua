-- table.new of LuaJIT: an empty table. The sizes are hints for speed only, so they are not used.

return function() return {} end
