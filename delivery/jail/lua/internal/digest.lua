-- What the digests have in common: text is cut into blocks, which are mixed into words.
--
-- define(spec) answers a digest:
--   block, size     bytes of a block, and of a result
--   sum(text)       the digest of a text, as bytes
--   new()           a hasher: update(text) as often as there is text, final() the bytes so far
-- spec = { block, size, length_size, little_endian, initial = words,
--          compress = function(words, text, at) mixes in the block at `at` }

local char, rep, sub = string.char, string.rep, string.sub
local concat, floor, next = table.concat, math.floor, next

local function copied(words)
  local copy = {}
  for index, word in next, words do copy[index] = word end
  return copy
end

-- Words may be signed: the remainders are never negative.
local function big(word)
  return char(floor(word / 16777216) % 256, floor(word / 65536) % 256,
    floor(word / 256) % 256, word % 256)
end

local function little(word)
  return char(word % 256, floor(word / 256) % 256, floor(word / 65536) % 256,
    floor(word / 16777216) % 256)
end

local function padding(spec, length)
  local bits = length * 8
  local low, high = bits % 2 ^ 32, floor(bits / 2 ^ 32)
  local zeros = rep("\0", (-length - 1 - spec.length_size) % spec.block + spec.length_size - 8)
  if spec.little_endian then return "\128" .. zeros .. little(low) .. little(high) end
  return "\128" .. zeros .. big(high) .. big(low)
end

local function result(spec, words)
  local parts, bytes = {}, spec.little_endian and little or big
  for index = 1, #words do parts[index] = bytes(words[index]) end
  return sub(concat(parts), 1, spec.size)
end

local function hasher(spec)
  local block, compress = spec.block, spec.compress
  local words, pending, length = copied(spec.initial), "", 0
  local self = {}

  function self.update(text)
    length = length + #text
    text = pending .. text
    local rest = #text % block
    for at = 1, #text - rest, block do compress(words, text, at) end
    pending = sub(text, #text - rest + 1)
  end

  function self.final()
    local last, mixed = pending .. padding(spec, length), copied(words)
    for at = 1, #last, block do compress(mixed, last, at) end
    return result(spec, mixed)
  end

  return self
end

local function define(spec)
  local digest = { block = spec.block, size = spec.size }

  function digest.new() return hasher(spec) end

  function digest.sum(text)
    local one = hasher(spec)
    one.update(text)
    return one.final()
  end

  return digest
end

return { define = define }
