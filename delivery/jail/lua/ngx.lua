-- The `ngx` that functions find: what of OpenResty's needs no request, no file and no connection.

local protect, lazily, log, guard, bundled, null = ...

local byte, find, format, gsub, match =
  string.byte, string.find, string.format, string.gsub, string.match
local date, floor = os.date, math.floor
local error, next, tonumber, tostring, type = error, next, tonumber, tostring, type

local LEVELS = { [0] = 50, 50, 50, 50, 40, 30, 20, 20, 10 } -- of OpenResty's to Python's

local ngx = {
  null = null,
  STDERR = 0, EMERG = 1, ALERT = 2, CRIT = 3, ERR = 4, WARN = 5, NOTICE = 6, INFO = 7, DEBUG = 8,
  OK = 0, ERROR = -1, AGAIN = -2, DONE = -4, DECLINED = -5,
  HTTP_OK = 200, HTTP_CREATED = 201, HTTP_ACCEPTED = 202, HTTP_NO_CONTENT = 204,
  HTTP_BAD_REQUEST = 400, HTTP_UNAUTHORIZED = 401, HTTP_FORBIDDEN = 403, HTTP_NOT_FOUND = 404,
  HTTP_NOT_ALLOWED = 405, HTTP_CONFLICT = 409, HTTP_TOO_MANY_REQUESTS = 429,
  HTTP_INTERNAL_SERVER_ERROR = 500, HTTP_BAD_GATEWAY = 502, HTTP_SERVICE_UNAVAILABLE = 503,
  config = protect("ngx.config", { debug = false, subsystem = "http" }),
}

function ngx.log(level, ...) log.note(LEVELS[level] or 20, ...) end

-- Time --------------------------------------------------------------------------------------------

local MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
local HTTP_TIME = "^%a%a%a, (%d%d) (%a%a%a) (%d%d%d%d) (%d%d):(%d%d):(%d%d) GMT$"

function ngx.now() return floor(guard.now() * 1000) / 1000 end

function ngx.time() return floor(guard.now()) end

function ngx.update_time() guard.update_time() end

function ngx.today() return date("!%Y-%m-%d", floor(guard.now())) end

function ngx.utctime() return date("!%Y-%m-%d %H:%M:%S", floor(guard.now())) end

ngx.localtime = ngx.utctime

function ngx.http_time(seconds) return date("!%a, %d %b %Y %H:%M:%S GMT", seconds) end

function ngx.cookie_time(seconds) return date("!%a, %d-%b-%y %H:%M:%S GMT", seconds) end

-- From the first day of 1970. Years begin in March here: leap days then come last.
local function days_from(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  local leaps = floor(year / 4) - floor(year / 100) + floor(year / 400)
  return year * 365 + leaps + floor((153 * (month - 3) + 2) / 5) + day - 719469
end

function ngx.parse_http_time(text)
  local day, name, year, hour, minute, second = match(text, HTTP_TIME)
  local at = name and find(MONTHS, name, 1, true)
  if not at or at % 3 ~= 1 then return nil end
  local days = days_from(tonumber(year), (at + 2) / 3, tonumber(day))
  return days * 86400 + hour * 3600 + minute * 60 + second
end

-- Texts -------------------------------------------------------------------------------------------

local function textual(value)
  if type(value) == "string" then return value end
  return value and tostring(value) or ""
end

function ngx.escape_uri(text, kind) return bundled("internal.uri").escape(textual(text), kind) end

function ngx.unescape_uri(text) return bundled("internal.uri").unescape(textual(text)) end

function ngx.encode_args(arguments)
  if type(arguments) ~= "table" then
    error("bad argument #1 to 'encode_args' (table expected, got " .. type(arguments) .. ")", 2)
  end
  return (bundled("internal.uri").encode_args(arguments))
end

function ngx.decode_args(text, max)
  return bundled("internal.uri").decode_args(textual(text), max)
end

function ngx.encode_base64(text, no_padding)
  return bundled("internal.base64").encode(textual(text), no_padding)
end

function ngx.decode_base64(text)
  if type(text) ~= "string" then error("string argument only", 2) end
  return bundled("internal.base64").decode(text)
end

-- Digests -----------------------------------------------------------------------------------------

function ngx.md5_bin(text) return bundled("internal.md5").sum(textual(text)) end

function ngx.md5(text)
  return (gsub(ngx.md5_bin(text), ".", function(one) return format("%02x", byte(one)) end))
end

function ngx.sha1_bin(text) return bundled("internal.sha1").sum(textual(text)) end

function ngx.hmac_sha1(key, text)
  return bundled("internal.hmac")(bundled("internal.sha1"), textual(key), textual(text))
end

function ngx.crc32_long(text) return bundled("internal.crc32")(textual(text)) end

ngx.crc32_short = ngx.crc32_long -- they differ in speed only

-- What there is not -------------------------------------------------------------------------------

local CONNECTIONS = "requests go through hook.request (untrusted_lua = lax)"
local INSTEAD = {
  location = CONNECTIONS,
  re = "use Lua's patterns",
  shared = "nothing is kept between workers",
  sleep = "a function cannot wait",
  socket = CONNECTIONS,
  thread = "use coroutines",
  timer = "a function cannot wait",
}

local absent = {}
for name, advice in next, INSTEAD do
  absent[name] = function() error(format("ngx.%s is not available: %s", name, advice), 3) end
end

return protect("ngx", lazily(ngx, absent))
