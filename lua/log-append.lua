#!lua
-- purpose: append one batch of access-log entries exactly once, index them by token, and count the usage of each token
--   and tenant
-- keys: sequence, stream..., totals..., usage..., index...
-- argv: number, maxEntries, indexMax, batch
-- reply: {fresh 1|0, written, failed}, entries without gaps; fresh 0: this number was appended before, the counts are
--   those of the last number
-- writes: sequence (86400 s), one XADD an entry (expires at its expireAt, trimmed to about maxEntries), totals (as the
--   stream), usage (400 days; at most 24 + 30 + 1 sums and 64 routes), index (as the stream; about indexMax records)
-- complexity: O(entries), 5 us each, and 4 us a token of the batch; the writer sends at most 200 entries
-- cluster: the keys of one batch belong to one group of tenants; on a single server all tenants are one group
--
-- batch is msgpack: {texts, streams, entries, gaps, uses, finds}. A place counts from 1: among the streams, the usage
-- keys, the index keys, the texts.
--   stream: {expireAt, head, writer, last, oldestMs}. `head` (writer:first:count) becomes the field `batch` of the first
--           entry that this batch leaves in the stream, '' that of the others: records of one writer in one stream are
--           numbered without a hole, and `last` is the number of the last one. totals keeps `last` for each writer,
--           so that a missing end is seen too, and in `lateMs` the longest that an entry waited (when over 60 s).
--   entry: {stream place, time, requestId, tenant, tokenId, method, path, route, status, outcome, durationMs,
--           upstreamMs, bytesIn, bytesOut, ip, userAgent}; values that repeat in a batch are places among the texts:
--           time, tenant, tokenId, method, route, status, outcome, ip, userAgent
--   gap: {stream place, time, tenant, outcome (places), dropped}
--   use: {usage place, hour, sums, calls, lastUsedAt (ms since 1970), ip, userAgent (places), {route (a place), calls, ...}}.
--        `sums` is a map of numbers, added key by key to the sums of its hour (field h<hour % 24>). When the field is
--        taken by a later hour, what it held goes into its day (field d<day % 30>) and into `all`: the sums of a day
--        are its field and the hours of that day, those of the lifetime `all` and every hour. `at` says which hour or
--        day a field holds.
--   find: {index place, stream place, tokenId, or the outcome of gap records (a place)}: one record `<id of the first> <n>` joins the index: the token's
--         entries of this batch are among the n entries of the stream from that id on.
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

local maxEntries, indexMax = ARGV[2], tonumber(ARGV[3])
local batch = cmsgpack.unpack(ARGV[4])
local texts, streams, entries, gaps, uses, finds = batch[1], batch[2], batch[3], batch[4], batch[5], batch[6]
local totalsOffset = 1 + #streams
local usageOffset = totalsOffset + #streams
local indexOffset = #KEYS - #finds
local written, failed = 0, 0
local broken, heads, counts, firstIds = {}, {}, {}, {}
for place, stream in ipairs(streams) do
  heads[place], counts[place] = stream[2], 0
end

-- Where the entries of a token stand: by stream and token, {id of the first, its place, place of the last}.
local spans = {}

local function appended(stream, name, id)
  heads[stream] = ''
  local count = counts[stream] + 1
  counts[stream] = count
  local span = spans[name * 65536 + stream]
  if span then
    span[3] = count
  else
    spans[name * 65536 + stream] = { id, count, count }
  end
end

for _, e in ipairs(entries) do
  local stream = e[1]
  local id = not broken[stream] and redis.pcall('XADD', KEYS[1 + stream], 'MAXLEN', '~', maxEntries, '*',
      'time', texts[e[2]], 'requestId', e[3], 'tenant', texts[e[4]], 'tokenId', texts[e[5]], 'method', texts[e[6]],
      'path', e[7], 'route', texts[e[8]], 'status', texts[e[9]], 'outcome', texts[e[10]], 'durationMs', e[11],
      'upstreamMs', e[12], 'bytesIn', e[13], 'bytesOut', e[14], 'ip', texts[e[15]], 'userAgent', texts[e[16]],
      'batch', heads[stream])
  if type(id) == 'string' then
    written = written + 1
    firstIds[stream] = firstIds[stream] or id
    appended(stream, e[5], id)
  else
    broken[stream] = true
    failed = failed + 1
  end
end

for _, gap in ipairs(gaps) do
  local stream = gap[1]
  local id = not broken[stream] and redis.pcall('XADD', KEYS[1 + stream], 'MAXLEN', '~', maxEntries, '*',
      'time', gap[2], 'tenant', texts[gap[3]], 'outcome', texts[gap[4]], 'dropped', gap[5], 'batch', heads[stream])
  if type(id) == 'string' then
    appended(stream, gap[4], id)
  else
    broken[stream] = true
  end
end

for place, stream in ipairs(streams) do
  if not broken[place] then
    redis.call('EXPIREAT', KEYS[1 + place], stream[1])
    local totals = KEYS[totalsOffset + place]
    if redis.pcall('HSET', totals, stream[3], stream[4]) == 1 then
      redis.call('EXPIREAT', totals, stream[1])
    end
    local waited = firstIds[place] and tonumber(string.match(firstIds[place], '^%d+')) - stream[5] or 0
    if waited > 60000 then
      local before = tonumber(redis.pcall('HGET', totals, 'lateMs') or 0)
      if before and before < waited then redis.call('HSET', totals, 'lateMs', waited) end
    end
  end
end

for _, find in ipairs(finds) do
  local span = spans[find[3] * 65536 + find[2]]
  if span then
    local index = KEYS[indexOffset + find[1]]
    local length = redis.pcall('RPUSH', index, span[1] .. ' ' .. (span[3] - span[2] + 1))
    if length == 1 then
      redis.call('EXPIREAT', index, streams[find[2]][1])
    elseif type(length) == 'number' and length > indexMax + 128 then
      redis.call('LTRIM', index, -indexMax, -1)
    end
  end
end

local function add(sums, more)
  for name, value in pairs(more) do
    sums[name] = (sums[name] or 0) + value
  end
end

-- The sums of an hour that leaves its field, or comes when a later one has it.
local function fold(key, hour, sums)
  sums.at = nil
  local day = math.floor(hour / 24)
  local field = 'd' .. day % 30
  local stored = redis.call('HMGET', key, field, 'all')
  local all = stored[2] and cmsgpack.unpack(stored[2]) or {}
  add(all, sums)
  redis.call('HSET', key, 'all', cmsgpack.pack(all))
  local ofDay = stored[1] and cmsgpack.unpack(stored[1])
  if not ofDay or ofDay.at < day then ofDay = { at = day } end
  if ofDay.at == day then
    add(ofDay, sums)
    redis.call('HSET', key, field, cmsgpack.pack(ofDay))
  end
end

local routesMax = 64
local call, pcall, pack, unpackMap = redis.call, redis.pcall, cmsgpack.pack, cmsgpack.unpack

local function count(key, use)
  local hour, more, routes = use[2], use[3], use[8]
  local field = 'h' .. hour % 24
  local names, asked = {}, { 'HMGET', key, field, 'lastUsedAt', 'calls', 'routes' }
  for place = 1, #routes, 2 do
    local name = 'r:' .. texts[routes[place]]
    names[place], asked[#asked + 1] = name, name
  end
  local stored = pcall(unpack(asked))
  if stored.err then return end
  local write = { 'HSET', key, 'calls', (tonumber(stored[3]) or 0) + use[4] }
  local length = 4

  local sums = stored[1] and unpackMap(stored[1])
  local starts = not sums or sums.at < hour
  if sums and sums.at ~= hour then
    if starts then fold(key, sums.at, sums) else fold(key, hour, more) end
  end
  if starts then
    sums = more
    sums.at = hour
  elseif sums.at == hour then
    for name, value in pairs(more) do sums[name] = (sums[name] or 0) + value end
  else
    sums = nil
  end
  if sums then
    write[5], write[6] = field, pack(sums)
    length = 6
  end

  -- A batch that waited out an outage must not overwrite what a later one said.
  if use[5] > (tonumber(stored[2]) or 0) then
    write[length + 1], write[length + 2] = 'lastUsedAt', use[5]
    write[length + 3], write[length + 4] = 'lastUsedIp', texts[use[6]]
    write[length + 5], write[length + 6] = 'lastUsedAgent', texts[use[7]]
    length = length + 6
  end

  local known, others = tonumber(stored[4]) or 0, 0
  for place = 1, #routes, 2 do
    local calls = tonumber(stored[4 + (place + 1) / 2])
    if calls or known < routesMax then
      write[length + 1], write[length + 2] = names[place], (calls or 0) + routes[place + 1]
      length = length + 2
      if not calls then known = known + 1 end
    else
      others = others + routes[place + 1]
    end
  end
  if known > (tonumber(stored[4]) or 0) then
    write[length + 1], write[length + 2] = 'routes', known
  end
  call(unpack(write))
  if others > 0 then call('HINCRBY', key, 'otherRoutes', others) end
  if starts then call('EXPIRE', key, 34560000) end
end

for _, use in ipairs(uses) do
  count(KEYS[usageOffset + use[1]], use)
end

redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. written .. ' ' .. failed, 'EX', 86400)
return { 1, written, failed }
