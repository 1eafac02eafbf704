-- split(text, separator[, max]): the parts between separators, plain text, the last of at most
-- `max` being all the rest. Without a separator the parts are words, and blanks around them do not
-- count.

local find, huge, sub = string.find, math.huge, string.sub

local function words(text, max)
  local parts, n = {}, 0
  local at = find(text, "%S")
  while at do
    n = n + 1
    local stop = n < max and find(text, "%s", at)
    if not stop then
      parts[n] = sub(text, at)
      return parts
    end
    parts[n] = sub(text, at, stop - 1)
    at = find(text, "%S", stop)
  end
  return parts
end

return function(text, separator, max)
  max = max or huge
  if separator == nil then return words(text, max) end
  if separator == "" then return { text } end
  local parts, n, at = {}, 1, 1
  while n < max do
    local start, stop = find(text, separator, at, true)
    if not start then break end
    parts[n] = sub(text, at, start - 1)
    n, at = n + 1, stop + 1
  end
  parts[n] = sub(text, at)
  return parts
end
