-- kong.tools.table: table_contains, table_merge, is_array, concat, shallow_copy, deep_copy.

local tools = ...

local next, type = next, type
local clone, is_array = tools.require("table.clone"), tools.require("table.isarray")
local deepcopy = tools.require("pl.tablex").deepcopy

local module = {}

function module.table_contains(list, value)
  for _, item in next, list or {} do
    if item == value then return true end
  end
  return false
end

-- A new table with the fields of both, the second's where both have one.
function module.table_merge(left, right)
  local merged = clone(left or {})
  for key, value in next, right or {} do merged[key] = value end
  return merged
end

function module.concat(...)
  local all, n = {}, 0
  for _, list in next, { ... } do
    for index = 1, #list do
      n = n + 1
      all[n] = list[index]
    end
  end
  return all
end

function module.is_array(value) return type(value) == "table" and is_array(value) end

function module.shallow_copy(value)
  if type(value) ~= "table" then return value end
  return clone(value)
end

function module.deep_copy(value) return deepcopy(value) end

return module
