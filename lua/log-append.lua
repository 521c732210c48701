#!lua
-- purpose: append one batch of access-log entries exactly once and count the calls of each token
-- keys: sequence, stream..., usage...
-- argv: number, maxEntries, batch, expireAt...
-- reply: {fresh 1|0, written, failed}, entries without gaps; fresh 0: this number was appended before, the counts are
--   those of the last number
-- writes: sequence (86400 s), one XADD an entry (expires at its expireAt, trimmed to about maxEntries), usage (400 days)
-- complexity: O(entries), 5 us each; the writer sends at most 200
-- cluster: the keys of one batch belong to one group of tenants; on a single server all tenants are one group
--
-- batch is msgpack: {texts, entries, gaps, uses}. A place counts from 1: among the streams, the usage keys, the texts.
--   entry: {stream place, time, requestId, tenant, tokenId, method, path, route, status, outcome, durationMs,
--           upstreamMs, bytesIn, bytesOut, ip, userAgent}; values that repeat in a batch are places among the texts:
--           time, tenant, tokenId, method, route, status, outcome, ip, userAgent
--   gap: {stream place, time, tenant (a place), dropped}; use: {usage place, calls, lastUsedAt (ms since 1970), ip (a place)}
-- No allow-oom: a Redis out of memory refuses the whole script before it runs, and the writer sends it again.
-- A stream that is no stream (WRONGTYPE) fails alone: its entries are counted as failed and its key is left as it is.

local number = tonumber(ARGV[1])
local seen = redis.call('GET', KEYS[1])
if seen then
  local last, written, failed = string.match(seen, '^(%d+) (%d+) (%d+)$')
  if number <= tonumber(last) then
    return { 0, tonumber(written), tonumber(failed) }
  end
end

local maxEntries = ARGV[2]
local batch = cmsgpack.unpack(ARGV[3])
local texts, entries, gaps, uses = batch[1], batch[2], batch[3], batch[4]
local streams = #ARGV - 3
local written, failed = 0, 0
local broken = {}

local function isError(reply)
  return type(reply) == 'table' and reply.err ~= nil
end

for _, e in ipairs(entries) do
  local stream = e[1]
  if not broken[stream] then
    broken[stream] = isError(redis.pcall('XADD', KEYS[1 + stream], 'MAXLEN', '~', maxEntries, '*',
      'time', texts[e[2]], 'requestId', e[3], 'tenant', texts[e[4]], 'tokenId', texts[e[5]], 'method', texts[e[6]],
      'path', e[7], 'route', texts[e[8]], 'status', texts[e[9]], 'outcome', texts[e[10]], 'durationMs', e[11],
      'upstreamMs', e[12], 'bytesIn', e[13], 'bytesOut', e[14], 'ip', texts[e[15]], 'userAgent', texts[e[16]]))
  end
  if broken[stream] then
    failed = failed + 1
  else
    written = written + 1
  end
end

for _, gap in ipairs(gaps) do
  local stream = gap[1]
  if not broken[stream] then
    broken[stream] = isError(redis.pcall('XADD', KEYS[1 + stream], 'MAXLEN', '~', maxEntries, '*',
      'time', gap[2], 'tenant', texts[gap[3]], 'outcome', 'log-gap', 'dropped', gap[4]))
  end
end

for stream = 1, streams do
  if not broken[stream] then
    redis.call('EXPIREAT', KEYS[1 + stream], ARGV[3 + stream])
  end
end

for _, use in ipairs(uses) do
  local key = KEYS[1 + streams + use[1]]
  local calls = redis.pcall('HINCRBY', key, 'calls', use[2])
  if type(calls) == 'number' then
    -- A batch that waited out an outage must not overwrite what a later one said.
    local last = tonumber(redis.call('HGET', key, 'lastUsedAt') or 0) or 0
    if last < tonumber(use[3]) then
      redis.call('HSET', key, 'lastUsedAt', use[3], 'lastUsedIp', texts[use[4]])
    end
    redis.call('EXPIRE', key, 34560000)
  end
end

redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. written .. ' ' .. failed, 'EX', 86400)
return { 1, written, failed }
