-- The job of Tollkeeper in nginx' Lua module: who is calling, may they, have they calls left, and one log entry.
-- Written as its users would tune it: one round trip a request on a kept connection, the script by its SHA-1, log
-- entries collected and written ten times a second in one pipeline.
local redis = require 'nginx.redis'
local sha1 = ngx.sha1_bin

local _M = {}
local port, script_sha = tonumber(os.getenv('PEER_REDIS_PORT')), os.getenv('PEER_SCRIPT_SHA')
local needed = 'products:read'
local entries = {}

local function connected()
  local connection = redis:new()
  connection:set_timeout(2000)
  local ok, failure = connection:connect('127.0.0.1', port)
  if not ok then return nil, failure end
  return connection
end

local function refuse(status, slug, challenge)
  ngx.ctx.outcome = slug
  ngx.status = status
  ngx.header['Content-Type'] = 'application/problem+json'
  if challenge then ngx.header['WWW-Authenticate'] = challenge end
  local body = '{"type":"https://tollkeeper.dev/problems/' .. slug .. '","status":' .. status .. '}'
  ngx.header['Content-Length'] = #body
  ngx.print(body)
  return ngx.exit(status)
end

function _M.access()
  local authorization = ngx.var.http_authorization
  if not authorization or string.sub(authorization, 1, 7) ~= 'Bearer ' then
    return refuse(401, 'missing-credentials', 'Bearer')
  end
  local key = 'peer:token:' .. sha1(string.sub(authorization, 8))
  local connection, failure = connected()
  if not connection then
    ngx.log(ngx.ERR, 'redis: ', failure)
    return refuse(503, 'store-unavailable')
  end
  local verdict
  verdict, failure = connection:evalsha(script_sha, 1, key)
  if not verdict then
    ngx.log(ngx.ERR, 'redis: ', failure)
    return refuse(503, 'store-unavailable')
  end
  connection:set_keepalive(60000, 256)
  local code = verdict[1]
  if code == 2 or code == 3 then return refuse(401, 'invalid-token', 'Bearer error="invalid_token"') end
  local ctx = ngx.ctx
  ctx.id, ctx.tenant, ctx.limit, ctx.remaining = verdict[2], verdict[3], verdict[5], verdict[6]
  ctx.reset = math.ceil(verdict[7] / 1000)
  if code == 4 then return refuse(429, 'rate-limit-exceeded') end
  local scopes = verdict[4]
  if not string.find(' ' .. scopes .. ' ', ' ' .. needed .. ' ', 1, true) then
    return refuse(403, 'insufficient-scope', 'Bearer error="insufficient_scope"')
  end
  ngx.req.clear_header('Authorization')
  ngx.req.set_header('X-Tollkeeper-Token-Id', verdict[2])
  ngx.req.set_header('X-Tollkeeper-Tenant', verdict[3])
  ngx.req.set_header('X-Tollkeeper-Scopes', scopes)
end

function _M.header()
  local ctx, header = ngx.ctx, ngx.header
  header['X-Request-Id'] = ngx.var.request_id
  if not ctx.id then return end
  header['RateLimit-Policy'] = '"token-60s";q=' .. ctx.limit .. ';w=60'
  header['RateLimit'] = '"token-60s";r=' .. ctx.remaining .. ';t=' .. ctx.reset
  header['X-RateLimit-Limit'] = ctx.limit
  header['X-RateLimit-Remaining'] = ctx.remaining
  header['X-RateLimit-Reset'] = ctx.reset
end

function _M.log()
  local var, ctx = ngx.var, ngx.ctx
  entries[#entries + 1] = {
    var.time_iso8601, var.request_id, ctx.tenant or '', ctx.id or '', var.request_method, var.uri, var.status,
    ctx.outcome or 'ok', var.request_time, var.upstream_header_time or '0', var.request_length, var.bytes_sent,
    var.remote_addr, var.http_user_agent or '',
  }
end

local function flush()
  local batch = entries
  if #batch == 0 then return end
  entries = {}
  local connection, failure = connected()
  if not connection then
    ngx.log(ngx.ERR, 'redis: ', failure)
    return
  end
  local day = os.date('!%Y-%m-%d')
  connection:init_pipeline(#batch)
  for _, e in ipairs(batch) do
    connection:xadd('peer:log:' .. e[3] .. ':' .. day, '*', 'time', e[1], 'requestId', e[2], 'tenant', e[3],
      'tokenId', e[4], 'method', e[5], 'path', e[6], 'status', e[7], 'outcome', e[8], 'durationS', e[9],
      'upstreamS', e[10], 'bytesIn', e[11], 'bytesOut', e[12], 'ip', e[13], 'userAgent', e[14])
  end
  local _
  _, failure = connection:commit_pipeline()
  if failure then ngx.log(ngx.ERR, 'redis: ', failure) end
  connection:set_keepalive(60000, 256)
end

function _M.init_worker()
  ngx.timer.every(0.1, flush)
end

return _M
