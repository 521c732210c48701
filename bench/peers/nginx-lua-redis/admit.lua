#!lua flags=allow-oom
-- purpose: what lua/admit.lua decides, for one request of nginx: the token is known and active, and its limit holds
-- keys: token
-- argv: none
-- reply: {code, id, tenant, scopes, limit, remaining, resetMs}; code 1 admitted, 2 unknown, 3 inactive, 4 limited

-- include lib/sliding-window.lua

local fields = redis.call('HMGET', KEYS[1], 'id', 'tenant', 'scopes', 'active', 'limit', 'windowMs', 'counters')
if not fields[1] then return { 2 } end
if fields[4] ~= '1' then return { 3 } end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local counters = fields[7] or ''
local meter = { identity = 1, limit = tonumber(fields[5]), window_ms = tonumber(fields[6]), charged = 0 }
-- Behind identity (6 bytes) and size (2); without leases there is no slack.
sliding_open(meter, counters, 9, #counters - 8, now_ms, 0)
local code = 4
if meter.free >= 1 then
  meter.free, meter.charged, code = meter.free - 1, 1, 1
  redis.call('HSET', KEYS[1], 'counters', sliding_close(meter))
end
local reset_ms = meter.free < meter.limit and sliding_wait(meter, meter.free > 0 and meter.free + 1 or 1, now_ms) or 0
return { code, fields[1], fields[2], fields[3], meter.limit, meter.free, reset_ms }
