#!lua
-- purpose: append one batch of access-log entries exactly once, index them by token, and count the usage of each token
--   and tenant
-- keys: sequence, stream..., totals..., recent..., usage..., index...
-- argv: number, maxEntries, indexMax, batch
-- reply: {fresh 1|0, written, failed}, entries without gaps; fresh 0: this number was appended before, the counts are
--   those of the last number
-- writes: sequence (86400 s), one XADD an entry (expires at its expireAt, trimmed to about maxEntries), totals (as the
--   stream), recent (400 days; 512 bytes and what one batch adds), usage (400 days; at most 24 + 30 + 1 sums and 64
--   routes), index (as the stream; about indexMax records of 12 bytes)
-- complexity: O(entries), 5 us each, and 5 us a token or tenant of the batch; the writer sends at most 200 entries
-- cluster: the keys of one batch belong to one group of tenants; on a single server all tenants are one group
--
-- batch is msgpack: {texts, streams, entries, gaps, uses, finds}. A place counts from 1: among the streams, the usage
-- keys (and the recent keys, which are as many), the index keys, the texts.
--   stream: {expireAt, head, writer, last, oldestMs, usage place of its tenant or 0}. `head` (writer:first:count) becomes
--           the field `batch` of the first entry that this batch leaves in the stream, '' that of the others: records of
--           one writer in one stream are numbered without a hole, and `last` is the number of the last one. totals keeps
--           `last` for each writer, so that a missing end is seen too, and in `lateMs` the longest that an entry waited
--           (when over 60 s).
--   entry: {stream place, time, requestId, tenant, tokenId, method, path, route, status, outcome, durationMs,
--           upstreamMs, bytesIn, bytesOut, ip, userAgent}; values that repeat in a batch are places among the texts:
--           time, tenant, tokenId, method, route, status, outcome, ip, userAgent
--   gap: {stream place, time, tenant, outcome (places), dropped}
--   use: {usage place, record}: what the calls of one token or tenant in one hour add to its usage. The record, msgpack
--           too, is {hour, sums, calls, ms of the hour in which the last one came, its ip, its userAgent, {route, calls,
--           ...}}. It joins the end of recent; when that has grown long, its records are added up in usage, so that for
--           most calls nothing is read, unpacked and packed again. What is in recent is not in usage.
--           `sums` is a map of numbers, added key by key to the sums of its hour (field h<hour % 24>). When the field is
--           taken by a later hour, what it held goes into its day (field d<day % 30>) and into `all`: the sums of a day
--           are its field and the hours of that day, those of the lifetime `all` and every hour. `at` says which hour or
--           day a field holds.
--   find: {index place, stream place, tokenId or the outcome of gap records (a place), usage place of the token or 0}: one
--           record joins the index: the id of the first entry (ms 6 bytes, sequence 4) and n (2), little-endian: the
--           token's entries of this batch are among the n entries of the stream from that id on.
-- Expiry is set where a key begins, and for usage again by the first batch of a day.
-- No allow-oom: a Redis out of memory refuses the whole script before it runs, and the writer sends it again.
-- A stream that is no stream (WRONGTYPE) fails alone: its entries are counted as failed and its key is left as it is.

local number = tonumber(ARGV[1])
local call, try = redis.call, redis.pcall
local seen = call('GET', KEYS[1])
if seen then
  local last, written, failed = string.match(seen, '^(%d+) (%d+) (%d+)$')
  if number <= tonumber(last) then
    return { 0, tonumber(written), tonumber(failed) }
  end
end

local maxEntries, indexBytesMax = ARGV[2], tonumber(ARGV[3]) * 12
local batch = cmsgpack.unpack(ARGV[4])
local texts, streams, entries, gaps, uses, finds = batch[1], batch[2], batch[3], batch[4], batch[5], batch[6]
local totalsOffset = 1 + #streams
local recentOffset = totalsOffset + #streams
local indexOffset = #KEYS - #finds
local usageOffset = recentOffset + (indexOffset - recentOffset) / 2
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

-- XADD. Whether the stream is there is asked with the first entry: one that begins gets its expiry with it.
local function add(stream, ...)
  local key = KEYS[1 + stream]
  if counts[stream] > 0 then return try('XADD', key, 'MAXLEN', '~', maxEntries, '*', ...) end
  local id = try('XADD', key, 'NOMKSTREAM', 'MAXLEN', '~', maxEntries, '*', ...)
  if id then return id end
  id = try('XADD', key, 'MAXLEN', '~', maxEntries, '*', ...)
  call('EXPIREAT', key, streams[stream][1])
  return id
end

for _, e in ipairs(entries) do
  local stream = e[1]
  local id = not broken[stream] and add(stream,
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
  local id = not broken[stream]
    and add(stream, 'time', gap[2], 'tenant', texts[gap[3]], 'outcome', texts[gap[4]], 'dropped', gap[5], 'batch', heads[stream])
  if type(id) == 'string' then
    appended(stream, gap[4], id)
  else
    broken[stream] = true
  end
end

local function sum(sums, more)
  for name, value in pairs(more) do
    sums[name] = (sums[name] or 0) + value
  end
end

-- The sums of an hour that leaves its field, or comes when a later one has it.
local function fold(key, hour, sums)
  sums.at = nil
  local day = math.floor(hour / 24)
  local field = 'd' .. day % 30
  local stored = call('HMGET', key, field, 'all')
  local all = stored[2] and cmsgpack.unpack(stored[2]) or {}
  sum(all, sums)
  call('HSET', key, 'all', cmsgpack.pack(all))
  local ofDay = stored[1] and cmsgpack.unpack(stored[1])
  if not ofDay or ofDay.at < day then ofDay = { at = day } end
  if ofDay.at == day then
    sum(ofDay, sums)
    call('HSET', key, field, cmsgpack.pack(ofDay))
  end
end

-- Kept 400 days from the last call; it is dated once a day.
local routesMax, recentMax, usageSeconds = 64, 512, 401 * 86400

-- Adds the sums of an hour to usage. `use` is a record, with what came later in the same hour added to it.
local function count(key, use)
  local hour, more, routes = use[1], use[2], use[7]
  local field = 'h' .. hour % 24
  local asked = { 'HMGET', key, field, 'lastUsedAt', 'calls', 'routes' }
  for place = 1, #routes, 2 do
    asked[#asked + 1] = 'r:' .. routes[place]
  end
  local stored = call(unpack(asked))
  local write = { 'HSET', key, 'calls', (tonumber(stored[3]) or 0) + use[3] }
  local length = 4

  local sums = stored[1] and cmsgpack.unpack(stored[1])
  local starts = not sums or sums.at < hour
  if sums and sums.at ~= hour then
    if starts then fold(key, sums.at, sums) else fold(key, hour, more) end
  end
  if starts then
    sums = more
    sums.at = hour
  elseif sums.at == hour then
    sum(sums, more)
  else
    sums = nil
  end
  if sums then
    write[5], write[6] = field, cmsgpack.pack(sums)
    length = 6
  end

  -- A batch that waited out an outage must not overwrite what a later one said.
  local lastUsedAt = use[3] > 0 and hour * 3600000 + use[4] or 0
  if lastUsedAt > (tonumber(stored[2]) or 0) then
    write[length + 1], write[length + 2] = 'lastUsedAt', lastUsedAt
    write[length + 3], write[length + 4] = 'lastUsedIp', use[5]
    write[length + 5], write[length + 6] = 'lastUsedAgent', use[6]
    length = length + 6
  end

  local known, others = tonumber(stored[4]) or 0, 0
  for place = 1, #routes, 2 do
    local calls = tonumber(stored[4 + (place + 1) / 2])
    if calls or known < routesMax then
      write[length + 1], write[length + 2] = asked[6 + (place + 1) / 2], (calls or 0) + routes[place + 1]
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
  if starts then call('EXPIRE', key, usageSeconds) end
end

-- Adds a record to an earlier one of the same hour.
local function join(use, record)
  sum(use[2], record[2])
  if record[3] > 0 and record[4] >= use[4] then
    use[4], use[5], use[6] = record[4], record[5], record[6]
  end
  use[3] = use[3] + record[3]
  local routes, places = use[7], {}
  for place = 1, #routes, 2 do
    places[routes[place]] = place
  end
  for at = 1, #record[7], 2 do
    local place = places[record[7][at]]
    if place then
      routes[place + 1] = routes[place + 1] + record[7][at + 1]
    else
      routes[#routes + 1], routes[#routes + 2] = record[7][at], record[7][at + 1]
    end
  end
end

-- Adds the records of recent up in usage. The byte that is left says that there is a usage: see `keep`.
local function settle(recent, usage)
  local ofHour, hours = {}, {}
  for _, record in ipairs({ cmsgpack.unpack(call('GET', recent)) }) do
    if type(record) == 'table' then
      local hour = record[1]
      if ofHour[hour] then
        join(ofHour[hour], record)
      else
        ofHour[hour] = record
        hours[#hours + 1] = hour
      end
    end
  end
  table.sort(hours)
  for _, hour in ipairs(hours) do
    count(usage, ofHour[hour])
  end
end

-- By usage place: recent begins with this batch.
local begun = {}

for _, use in ipairs(uses) do
  local place, record = use[1], use[2]
  local recent = KEYS[recentOffset + place]
  local length = try('APPEND', recent, record)
  if length == #record then
    begun[place] = true
    call('EXPIRE', recent, usageSeconds)
  end
  if type(length) == 'number' and length > recentMax then
    -- Whatever else may have written these keys holds up no entry.
    pcall(settle, recent, KEYS[usageOffset + place])
    call('SET', recent, '\0', 'EX', usageSeconds)
  end
end

-- A day has begun for a token or tenant: its usage lives 400 days from now.
local function keep(place)
  if place == 0 or begun[place] then return end
  call('EXPIRE', KEYS[recentOffset + place], usageSeconds)
  call('EXPIRE', KEYS[usageOffset + place], usageSeconds)
end

local function msOf(id)
  return tonumber(string.sub(id, 1, string.find(id, '-', 1, true) - 1))
end

for place, stream in ipairs(streams) do
  if not broken[place] then
    local totals = KEYS[totalsOffset + place]
    if try('HSET', totals, stream[3], stream[4]) == 1 then
      call('EXPIREAT', totals, stream[1])
      call('EXPIREAT', KEYS[1 + place], stream[1])
      keep(stream[6])
    end
    local waited = firstIds[place] and msOf(firstIds[place]) - stream[5] or 0
    if waited > 60000 then
      local before = tonumber(try('HGET', totals, 'lateMs') or 0)
      if before and before < waited then call('HSET', totals, 'lateMs', waited) end
    end
  end
end

for _, find in ipairs(finds) do
  local span = spans[find[3] * 65536 + find[2]]
  if span then
    local index, id = KEYS[indexOffset + find[1]], span[1]
    local sequence = string.sub(id, string.find(id, '-', 1, true) + 1)
    local length = try('APPEND', index, struct.pack('<I6I4I2', msOf(id), tonumber(sequence), span[3] - span[2] + 1))
    if length == 12 then
      call('EXPIREAT', index, streams[find[2]][1])
      keep(find[4])
    elseif type(length) == 'number' and length > indexBytesMax + 1536 then
      call('SET', index, call('GETRANGE', index, -indexBytesMax, -1), 'KEEPTTL')
    end
  end
end

call('SET', KEYS[1], ARGV[1] .. ' ' .. written .. ' ' .. failed, 'EX', 86400)
return { 1, written, failed }
