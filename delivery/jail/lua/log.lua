-- The lines that user code logs and prints, up to the limits.

local log_lines, log_size = ...

local concat, select, sub, tostring = table.concat, select, string.sub, tostring

local log = {}
local count, size

function log.prepare()
  log.levels, log.lines, log.dropped = {}, {}, 0
  count, size = 0, 0
end

function log.count() return count end

function log.note(level, ...)
  if count >= log_lines or size >= log_size then
    log.dropped = log.dropped + 1
    return
  end
  local parts, text = { ... }, nil
  for index = 1, select("#", ...) do parts[index] = tostring(parts[index]) end
  text = sub(concat(parts), 1, log_size - size)
  -- In this order: an error may strike between any two steps, and the report trusts the count.
  log.lines[count + 1], log.levels[count + 1] = text, level
  count, size = count + 1, size + #text
end

function log.at(level)
  local note = log.note
  return function(...) note(level, ...) end
end

return log
