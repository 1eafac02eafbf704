-- SHA-224 (RFC 6234), as a digest: see internal/digest.lua.

local tools = ...

return tools.require("internal.sha256").variant(28, {
  0xc1059ed8, 0x367cd507, 0x3070dd17, 0xf70e5939, 0xffc00b31, 0x68581511, 0x64f98fa7, 0xbefa4fa4,
})
