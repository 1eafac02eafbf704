-- msgpack, of the shape of Report in frames.py.

local byte, char, floor, min = string.byte, string.char, math.floor, math.min
local concat = table.concat

local EMPTY, NIL = char(0x90), char(0xc0)

local function uint32(tag, number)
  return char(tag, floor(number / 2 ^ 24) % 256, floor(number / 2 ^ 16) % 256,
    floor(number / 256) % 256, number % 256)
end

local ZERO = uint32(0xce, 0)

local function binary(text) return uint32(0xc6, #text) .. text end

local function text(ascii) return char(0xa0 + #ascii) .. ascii end

local function array(items, count, encode)
  if count == 0 then return EMPTY end
  local out = { uint32(0xdd, count) }
  for index = 1, count do out[index + 1] = encode(items[index], index) end
  return concat(out)
end

local function failure(found)
  local line = found.line and uint32(0xce, found.line) or NIL
  return char(0x93) .. uint32(0xce, found.index) .. line .. binary(found.text)
end

local function effect(pair) return char(0x92) .. text(pair[1]) .. binary(pair[2]) end

local PLAIN = char(0x96) .. EMPTY .. EMPTY .. ZERO -- no failures, no lines, none dropped

return function(failures, log, result, texts, effects)
  if #failures + log.count() + log.dropped + #texts + #effects == 0 then
    return PLAIN .. (result and binary(result) or NIL) .. EMPTY .. EMPTY
  end
  local levels = log.levels
  local function line(logged, index) return char(0x92, levels[index]) .. binary(logged) end
  return concat({
    char(0x96),
    array(failures, #failures, failure),
    array(log.lines, log.count(), line),
    uint32(0xce, min(log.dropped, 2 ^ 32 - 1)),
    result and binary(result) or NIL,
    array(texts, #texts, binary),
    array(effects, #effects, effect),
  })
end
