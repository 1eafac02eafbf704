-- strip(text, left, right[, characters]): the text without blanks, or without any of `characters`,
-- at the ends that are asked for. A loop over bytes: patterns take quadratic time on blanks.

local byte, sub = string.byte, string.sub

local function set_of(characters)
  local set = {}
  for at = 1, #characters do set[byte(characters, at)] = true end
  return set
end

local BLANKS = set_of(" \t\n\v\f\r")

return function(text, left, right, characters)
  local set = characters and set_of(characters) or BLANKS
  local first, last = 1, #text
  if left then
    while set[byte(text, first)] do first = first + 1 end
  end
  if right then
    while last >= first and set[byte(text, last)] do last = last - 1 end
  end
  return sub(text, first, last)
end
