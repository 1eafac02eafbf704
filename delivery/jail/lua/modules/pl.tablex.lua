-- pl.tablex: the usual functions of Penlight's, as its documentation describes them. What expects a
-- function takes functions only, not the names of operators. Results are plain tables.

local abs, error, format, next, type = math.abs, error, string.format, next, type
local getmetatable, rawequal, setmetatable, sort = getmetatable, rawequal, setmetatable, table.sort

local tablex = {}

local function check(value, position, kind)
  if type(value) ~= kind then
    error(format("argument %d expected a '%s' got a '%s'", position, kind, type(value)), 3)
  end
end

-- Copies and comparisons --------------------------------------------------------------------------

function tablex.copy(fields)
  check(fields, 1, "table")
  local copy = {}
  for key, value in next, fields do copy[key] = value end
  return copy
end

-- Shared tables and cycles stay what they are.
local function deepcopy(value, copies)
  if type(value) ~= "table" then return value end
  if copies[value] then return copies[value] end
  local copy = {}
  copies[value] = copy
  for key, item in next, value do copy[deepcopy(key, copies)] = deepcopy(item, copies) end
  local metatable = getmetatable(value)
  if type(metatable) == "table" then setmetatable(copy, metatable) end
  return copy
end

function tablex.deepcopy(fields) return deepcopy(fields, {}) end

local function close(left, right, tolerance)
  return tolerance and type(left) == "number" and type(right) == "number"
    and abs(left - right) <= tolerance
end

local deepcompare

local function same_fields(left, right, ignore_metatable, tolerance)
  for key, value in next, left do
    if right[key] == nil or not deepcompare(value, right[key], ignore_metatable, tolerance) then
      return false
    end
  end
  for key in next, right do
    if left[key] == nil then return false end
  end
  return true
end

function deepcompare(left, right, ignore_metatable, tolerance)
  if rawequal(left, right) then return true end
  if type(left) ~= "table" or type(right) ~= "table" then
    return left == right or close(left, right, tolerance) or false
  end
  local metatable = not ignore_metatable and getmetatable(left)
  if type(metatable) == "table" and metatable.__eq then return left == right end
  return same_fields(left, right, ignore_metatable, tolerance)
end

function tablex.deepcompare(left, right, ignore_metatable, tolerance)
  return deepcompare(left, right, ignore_metatable, tolerance)
end

-- Whether two lists are equal; `equal` decides for items.
function tablex.compare(left, right, equal)
  if #left ~= #right then return false end
  for index = 1, #left do
    if not equal(left[index], right[index]) then return false end
  end
  return true
end

-- Looking at tables -------------------------------------------------------------------------------

function tablex.size(fields)
  check(fields, 1, "table")
  local count = 0
  for _ in next, fields do count = count + 1 end
  return count
end

function tablex.keys(fields)
  check(fields, 1, "table")
  local keys, n = {}, 0
  for key in next, fields do
    n = n + 1
    keys[n] = key
  end
  return keys
end

function tablex.values(fields)
  check(fields, 1, "table")
  local values, n = {}, 0
  for _, value in next, fields do
    n = n + 1
    values[n] = value
  end
  return values
end

function tablex.find(list, value, first)
  check(list, 1, "table")
  for index = first or 1, #list do
    if list[index] == value then return index end
  end
  return nil
end

function tablex.rfind(list, value, last)
  check(list, 1, "table")
  for index = last or #list, 1, -1 do
    if list[index] == value then return index end
  end
  return nil
end

-- The index of the first item that passes, and what the test answered.
function tablex.find_if(list, test, argument)
  check(list, 1, "table")
  check(test, 2, "function")
  for index = 1, #list do
    local answer = test(list[index], argument)
    if answer then return index, answer end
  end
  return nil
end

function tablex.count_map(list)
  check(list, 1, "table")
  local counts = {}
  for index = 1, #list do counts[list[index]] = (counts[list[index]] or 0) + 1 end
  return counts
end

-- Applying functions ------------------------------------------------------------------------------

function tablex.map(call, fields, ...)
  check(call, 1, "function")
  check(fields, 2, "table")
  local results = {}
  for key, value in next, fields do results[key] = call(value, ...) end
  return results
end

function tablex.imap(call, list, ...)
  check(call, 1, "function")
  check(list, 2, "table")
  local results = {}
  for index = 1, #list do results[index] = call(list[index], ...) or false end
  return results
end

function tablex.filter(list, test, argument)
  check(list, 1, "table")
  check(test, 2, "function")
  local kept, n = {}, 0
  for index = 1, #list do
    if test(list[index], argument) then
      n = n + 1
      kept[n] = list[index]
    end
  end
  return kept
end

function tablex.foreach(fields, call, ...)
  check(fields, 1, "table")
  check(call, 2, "function")
  for key, value in next, fields do call(value, key, ...) end
end

function tablex.foreachi(list, call, ...)
  check(list, 1, "table")
  check(call, 2, "function")
  for index = 1, #list do call(list[index], index, ...) end
end

function tablex.reduce(call, list, memo)
  check(call, 1, "function")
  check(list, 2, "table")
  local first = 1
  if memo == nil then memo, first = list[1], 2 end
  for index = first, #list do memo = call(memo, list[index]) end
  return memo
end

-- Making tables -----------------------------------------------------------------------------------

function tablex.makeset(list)
  check(list, 1, "table")
  local set = {}
  for index = 1, #list do set[list[index]] = true end
  return set
end

-- The keys of both tables if `all`, else those that both have; values are the second table's.
function tablex.merge(left, right, all)
  check(left, 1, "table")
  check(right, 2, "table")
  local merged = {}
  for key, value in next, left do
    if all or right[key] ~= nil then merged[key] = value end
  end
  for key, value in next, right do
    if all or left[key] ~= nil then merged[key] = value end
  end
  return merged
end

function tablex.union(left, right) return tablex.merge(left, right, true) end

function tablex.intersection(left, right) return tablex.merge(left, right, false) end

-- The fields whose keys only the first table has; only either, if `symmetric`.
function tablex.difference(left, right, symmetric)
  check(left, 1, "table")
  check(right, 2, "table")
  local rest = {}
  for key, value in next, left do
    if right[key] == nil then rest[key] = value end
  end
  if symmetric then
    for key, value in next, right do
      if left[key] == nil then rest[key] = value end
    end
  end
  return rest
end

function tablex.update(fields, changes)
  check(fields, 1, "table")
  check(changes, 2, "table")
  for key, value in next, changes do fields[key] = value end
  return fields
end

function tablex.index_by(fields, keys)
  check(fields, 1, "table")
  check(keys, 2, "table")
  local picked = {}
  for index = 1, #keys do picked[index] = fields[keys[index]] end
  return picked
end

function tablex.range(first, last, step)
  step = step or 1
  if step == 0 then error("argument 3 must not be 0", 2) end
  local numbers, n = {}, 0
  for number = first, last, step do
    n = n + 1
    numbers[n] = number
  end
  return numbers
end

local function from_end(index, length)
  if index < 0 then return length + index + 1 end
  return index
end

function tablex.sub(list, first, last)
  check(list, 1, "table")
  local part, n = {}, 0
  for index = from_end(first or 1, #list), from_end(last or -1, #list) do
    n = n + 1
    part[n] = list[index]
  end
  return part
end

-- Iterates over keys and values in the order of the keys.
function tablex.sort(fields, less)
  check(fields, 1, "table")
  local keys, n = tablex.keys(fields), 0
  sort(keys, less)
  return function()
    n = n + 1
    return keys[n], fields[keys[n]]
  end
end

return tablex
