-- The `hook` that functions find: what they want done once all of them have succeeded.
--
-- Answers it, and what the host knows of it: prepare(arguments), start() and stop() around each
-- function, list() of pairs of a kind and its content as JSON, size() in bytes, is_skipped().

local protect, limits, may_request, json = ...

local byte, find, format, gsub = string.byte, string.find, string.format, string.gsub
local len, lower, sub, upper = string.len, string.lower, string.sub, string.upper
local error, getinfo, next, tostring, type = error, debug.getinfo, next, tostring, type

local MAX_DEPTH = 3
local NAME_LENGTH = 128
local METHOD_LENGTH = 32
local OBJECT = byte("{")

local arguments, listed, count, size, calling, skipped

-- Arguments ---------------------------------------------------------------------------------------

local function is_ours(info)
  return sub(info.source, 1, 8) == "=sandbox" or info.what == "tail"
end

-- The place that is named is the user's, however deep in here the fault is found.
local function refuse(pattern, ...)
  local level = 2
  local info = getinfo(level, "S")
  while info and is_ours(info) do
    level = level + 1
    info = getinfo(level, "S")
  end
  error(format(pattern, ...), level)
end

local function check_type(value, expected, what)
  if type(value) ~= expected then refuse("%s must be a %s, got %s", what, expected, type(value)) end
end

local function encoded(value, what)
  local text, problem = json().safe_encode(value, limits.result_size)
  if not text then refuse("%s: %s", what, problem) end
  return text
end

local function encoded_data(data, what)
  check_type(data, "table", what)
  local text = encoded(data, what)
  if byte(text) ~= OBJECT then refuse("%s must have names as keys, got a list", what) end
  return text
end

local function check_event(event)
  check_type(event, "string", "hook.emit: event")
  local characters = len((gsub(event, "[\128-\191]", "")))
  if characters < 1 or characters > NAME_LENGTH or find(event, "[%c/]") then
    refuse('hook.emit: event must have 1 to %d printable characters, none of them "/"', NAME_LENGTH)
  end
end

local function checked_headers(headers)
  if headers == nil then return {} end
  check_type(headers, "table", "hook.request: headers")
  local checked = {}
  for name, value in next, headers do
    if type(name) ~= "string" or type(value) ~= "string" then
      refuse("hook.request: headers must have strings as names and values")
    end
    if name == "" or find(name, "[%c%s:]") or find(value, "[%c]") then
      refuse("hook.request: header %s has characters that no header may have", format("%q", name))
    end
    checked[name] = value
  end
  return checked
end

local function has_content_type(headers)
  for name in next, headers do
    if lower(name) == "content-type" then return true end
  end
end

local FIELDS = { body = true, headers = true, json = true, method = true, url = true }

local function check_fields(request)
  check_type(request, "table", "hook.request: its argument")
  for name in next, request do
    if not FIELDS[name] then refuse("hook.request: there is no field %s", tostring(name)) end
  end
end

local function checked_method(method)
  if method == nil then return "POST" end
  check_type(method, "string", "hook.request: method")
  if not find(method, "^%a+$") or #method > METHOD_LENGTH then
    refuse("hook.request: method must be one word")
  end
  return upper(method)
end

local function check_url(url)
  check_type(url, "string", "hook.request: url")
  if not find(lower(sub(url, 1, 9)), "^https?://.") or find(url, "[%c%s]") then
    refuse("hook.request: url must begin with http:// or https:// and have no blanks")
  end
end

local function checked_body(request, headers)
  if request.json == nil then
    if request.body ~= nil then check_type(request.body, "string", "hook.request: body") end
    return request.body
  end
  if request.body ~= nil then refuse("hook.request: give either body or json") end
  if not has_content_type(headers) then headers["content-type"] = "application/json" end
  return encoded(request.json, "hook.request: json")
end

-- Effects -----------------------------------------------------------------------------------------

local function begin(name)
  if not calling then
    refuse("hook.%s: only a function that is called on an event may do this", name)
  end
end

local function add(name, content)
  if skipped then return end
  if count >= limits.effects then
    refuse("hook.%s: at most %d effects of one event", name, limits.effects)
  end
  if size + #content > limits.result_size then
    refuse("hook.%s: at most %d bytes of effects of one event", name, limits.result_size)
  end
  listed[count + 1] = { name, content }
  count, size = count + 1, size + #content
end

local hook = {}

function hook.skip(reason)
  begin("skip")
  if reason == nil then reason = "" end
  check_type(reason, "string", "hook.skip: reason")
  local content = encoded(reason, "hook.skip: reason")
  if not skipped then
    listed, count, size = {}, 0, 0
    add("skip", content)
    skipped = true
  end
  return true
end

function hook.set(data)
  begin("set")
  add("set", encoded_data(data, "hook.set: data"))
  arguments.data = data
end

function hook.emit(event, data)
  begin("emit")
  check_event(event)
  if arguments.depth >= MAX_DEPTH then
    refuse("hook.emit: an event can be %d emissions deep at most", MAX_DEPTH)
  end
  if data == nil then data = arguments.data end
  local name, content = encoded(event, "hook.emit: event"), encoded_data(data, "hook.emit: data")
  add("emit", '{"event":' .. name .. ',"data":' .. content .. "}")
end

function hook.request(request)
  if not may_request then refuse("hook.request: only with untrusted_lua = lax or on") end
  begin("request")
  check_fields(request)
  check_url(request.url)
  local headers = checked_headers(request.headers)
  local method, body = checked_method(request.method), checked_body(request, headers)
  add("request", encoded({ method = method, url = request.url, headers = headers, body = body },
    "hook.request"))
end

local effects = {}

function effects.prepare(given)
  arguments, listed, count, size, calling, skipped = given, {}, 0, 0, false, false
end

function effects.start() calling = true end

function effects.stop() calling = false end

function effects.is_skipped() return skipped end

function effects.list() return listed end

function effects.size() return size end

return protect("hook", hook), effects
