#!lua flags=allow-oom
-- purpose: the one atomic decision about every request of a batch: is each record still the version the sidecar
--   decided under, is the request inside its time window and used for the first time, has it units left; then charge
-- keys: meta, record..., claims...
-- argv: installation, batch, clock, preview, leases, claims
-- reply: now in ms; the verdicts, 20 bytes a request; then for each moved record its index among the records and its
--   JSON; in a preview, then for each record its limits, 18 bytes each; with leases, then what was granted
-- writes: `counters` of the records that were charged (one field a record, at most 8 limits of 35 pairs each), `leased` of
--   those that a lease was taken of, and one member of a set a claim; the set expires at the time that its claims give
-- complexity: one read (two where only some requests know the record) and at most one write a record, three commands for
--   all claims of a set, O(limits) a request in
--   memory
-- cluster: all keys of a batch must share one slot; on one server a batch may mix shards
--
-- installation: id the store must carry, '' when the sidecar has not learned one yet.
-- clock: '' for Redis' own, else microseconds (tests).
-- preview: 'preview' decides in the same way and writes nothing; left out in every real admission. A limit is told as it
--   is before any charge, little-endian: units left, capacity, reset in ms (6 each).
-- leases: units charged in advance, to be used within `lease_ms` without asking, and what was left of them. Left out when
--   there are none; little-endian, 28 bytes each: the request it goes with, from 0 (2), units (4), 0 to ask for them or the
--   time in ms that they were dated when they are given back (6), and the marks of token and tenant then (8 each).
--   Granted, 33 bytes for each lease that stands there, in that order: units, 0 = none (4), then as in a verdict the limit
--   nearest to its end (1), remaining (6), reset (6), and the marks of token and tenant (8 each).
-- batch: little-endian: how many of KEYS are records (2 bytes), then 36 bytes a request:
--    token record, 1 = the first (2), the version decided under, 0 = none cached (4)
--    tenant record, 0 = not known yet (2), the version decided under, 0 = none cached (4)
--    cost in units, 0 charges nothing (4), claim, 1 = the first of the claims, 0 = none (2)
--    ms, 6 bytes each: not before, not at or after (0 = no bound), the claim is kept until
-- claims: what may be used once. Left out when there are none; little-endian, 34 bytes each: the set it belongs to, 1 = the
--   first behind the records (2), and what is put there (32). All claims of a set are kept until the same time.
-- verdict, little-endian: code (1), limit index (1, 255 = none), remaining, reset in ms, retry in ms (6 each).
-- codes, in the order of the checks; where nothing is charged, nothing is claimed either:
--    1 admitted: charged and claimed              6 too late            limit index, remaining, reset and retry
--    2 confirmed: cost 0, claimed                 7 too early           speak of the limit nearest to its end
--    3 moved: the record is another version       8 replayed            (9, 10: of the one with the longest wait);
--    4 unknown: no such record                    9 limited             the index counts the token's limits from 0,
--    5 the store is empty or another one         10 quota used up       then the tenant's
--   11 the record cannot be read
--
-- All requests are decided on one state in memory and everything is written at the end: a token that comes a hundred
-- times costs one read and one write, and an error on the way has written nothing.

-- include lib/calendar.lua
-- include lib/sliding-window.lua
-- include lib/fixed-window.lua
-- include lib/token-bucket.lua

local ADMITTED, CONFIRMED, MOVED, UNKNOWN, STORE_EMPTY, TOO_LATE, TOO_EARLY, REPLAYED, LIMITED, QUOTA, UNREADABLE =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11

local SLIDING_WINDOW, FIXED_WINDOW, TOKEN_BUCKET, DAY, MONTH = 1, 2, 3, 4, 5

-- What is charged in advance is used within this time (src/admission/leases.ts holds to less).
local lease_ms = 100
-- A lease takes at most this part of what is free, so that others find units too; fewer than so many are not worth one.
local lease_share, lease_min = 8, 2

local batch = ARGV[2]
local record_count = struct.unpack('<I2', batch)
local now_us = tonumber(ARGV[3])
if not now_us then
  local time = redis.call('TIME')
  now_us = time[1] * 1000000 + time[2]
end
local now_ms = math.floor(now_us / 1000)

local no_meters = {}
local records, written, moved, marked = {}, {}, {}, {}

-- The calendar month is the same for the whole batch.
local month_number, month_ends_ms

-- One limit with its state, ready to be asked: `free` is what may still be charged now. `size` bytes of state begin at
-- `payload_at` of the counters, 0 when there is none. At most 16 fields: one more, and Lua makes the table anew.
local function open_meter(kind, identity, limit, window_ms, interval_us, burst, slack_ms, counters, payload_at, size)
  local meter = {
    kind = kind,
    identity = identity,
    limit = limit,
    window_ms = window_ms,
    interval_us = interval_us,
    burst = burst,
    charged = 0,
    free = 0,
    capacity = 0,
  }
  if kind == SLIDING_WINDOW then
    sliding_open(meter, counters, payload_at, size, now_ms, slack_ms)
  elseif kind == TOKEN_BUCKET then
    bucket_open(meter, counters, payload_at, size, now_us)
  elseif kind == FIXED_WINDOW then
    local number = math.floor(now_ms / window_ms)
    period_open(meter, counters, payload_at, size, number, (number + 1) * window_ms)
  elseif kind == DAY then
    period_open(meter, counters, payload_at, size, day_period(now_ms))
  elseif kind == MONTH then
    if not month_number then month_number, month_ends_ms = month_period(now_ms) end
    period_open(meter, counters, payload_at, size, month_number, month_ends_ms)
  else
    error('unknown kind of limit')
  end
  return meter
end

-- Until `units` more could be charged, ms; 0 when they could be now.
local function wait_ms(meter, units)
  if units <= meter.free then return 0 end
  local kind = meter.kind
  if kind == SLIDING_WINDOW then return sliding_wait(meter, units, now_ms) end
  if kind == TOKEN_BUCKET then return bucket_wait(meter, units) end
  return period_wait(meter, units, now_ms)
end

-- Until units come back, ms; 0 when the limit is full.
local function reset_ms(meter)
  local free = meter.free
  if free >= meter.capacity then return 0 end
  return wait_ms(meter, free > 0 and free + 1 or 1)
end

-- The section of the counters to keep, '' when nothing is used.
local function close_meter(meter)
  if meter.free >= meter.capacity then return '' end
  local kind = meter.kind
  if kind == SLIDING_WINDOW then return sliding_close(meter) end
  if kind == TOKEN_BUCKET then return bucket_close(meter, now_us) end
  return period_close(meter)
end

local function mark_written(record)
  if record.is_written then return end
  record.is_written = true
  written[#written + 1] = record
end

-- `leased` says that sidecars may hold leases of this record, so that whoever changes it waits for their end; as a number
-- it tells one state of the counters from what became of it when the clock jumped back.
local function mark(record, number)
  record.mark = number
  marked[#marked + 1] = record
end

-- What a request is decided on, when there is one to decide: `fields` end with it.
local function keep_state(record, fields, from)
  record.limits, record.counters = fields[from], fields[from + 1]
  record.mark = fields[from + 2] and tonumber(fields[from + 2])
  record.is_read = true
end

-- Who has no version of a record is given the record and decides anew: the rest is read for those alone who have one.
local function read_record(index, version)
  local key, fields = KEYS[index + 1], nil
  if version == 0 then
    fields = redis.pcall('HMGET', key, 'version', 'record')
  else
    fields = redis.pcall('HMGET', key, 'version', 'limits', 'counters', 'leased')
  end
  local record = { index = index, version = 0, is_written = false, is_moved = false, meters = nil }
  records[index] = record
  if fields.err then
    record.version = nil
  elseif fields[1] then
    record.version = tonumber(fields[1])
    if version == 0 then record.json = fields[2] else keep_state(record, fields, 2) end
  end
  return record
end

-- Where the state of a limit is in the counters. They are sections of identity (6 bytes), size (2) and payload, in
-- the order of the limits when they were written: `at`, where the section before ended, is nearly always right.
local function find_section(counters, identity, at)
  local length = #counters
  if at <= length then
    local found, size = struct.unpack('<I6I2', counters, at)
    if found == identity then return at + 8, size end
  end
  at = 1
  while at <= length do
    local found, size = struct.unpack('<I6I2', counters, at)
    if found == identity then return at + 8, size end
    at = at + 8 + size
  end
  return 1, 0
end

local function open_meters(record)
  if not record.is_read then
    keep_state(record, redis.call('HMGET', KEYS[record.index + 1], 'limits', 'counters', 'leased'), 1)
  end
  local limits = record.limits
  if not limits or limits == '' then
    record.meters = no_meters
    return
  end
  local counters = record.counters or ''
  local meters, next_at, is_adjusted = {}, 1, false
  local slack_ms = record.mark and lease_ms or 0
  for at = 1, #limits, 25 do
    local kind, limit, window_ms, interval_us, burst = struct.unpack('<BI6I6I6I6', limits, at)
    local identity = window_ms * 8 + kind
    local payload_at, size = find_section(counters, identity, next_at)
    next_at = payload_at + size
    local meter = open_meter(kind, identity, limit, window_ms, interval_us, burst, slack_ms, counters, payload_at, size)
    is_adjusted = is_adjusted or meter.is_adjusted
    meters[#meters + 1] = meter
  end
  -- Written even when everything is refused: from now on, and not from the next charge, the state is what it is now.
  if is_adjusted then
    mark_written(record)
    -- What was leased before is no longer where its holder thinks: it cannot be given back.
    if record.mark then mark(record, record.mark + 1) end
  end
  record.meters = meters
end

-- The answer to a record that is not there, found once.
local absence
local function absent()
  if not absence then
    local installation = redis.call('HGET', KEYS[1], 'installation')
    local is_ours = installation and (ARGV[1] == '' or ARGV[1] == installation)
    absence = is_ours and UNKNOWN or STORE_EMPTY
  end
  return absence
end

-- nil when the record is there, can be read and is still `version`; else the code that says what is wrong.
local function check_record(record, version)
  local found = record.version
  if found ~= version then
    if not found then return UNREADABLE end
    if found == 0 then return absent() end
    if not record.is_moved then
      record.is_moved = true
      moved[#moved + 1] = record.index
    end
    return MOVED
  end
  if found == 0 then return absent() end
  if not record.meters and not pcall(open_meters, record) then
    record.version = nil
    return UNREADABLE
  end
  return nil
end

-- With the code, the state of the limit nearest to its end: the smallest part of its capacity left.
local function answer(code, meters, tenant_meters)
  local best, best_index
  for at = 1, #meters do
    local meter = meters[at]
    if not best or meter.free * best.capacity < best.free * meter.capacity then
      best, best_index = meter, at - 1
    end
  end
  for at = 1, #tenant_meters do
    local meter = tenant_meters[at]
    if not best or meter.free * best.capacity < best.free * meter.capacity then
      best, best_index = meter, #meters + at - 1
    end
  end
  if not best then return code, 255, 0, 0, 0 end
  return code, best_index, best.free > 0 and best.free or 0, reset_ms(best), 0
end

-- The refusal by the limit with the longest wait.
local function refuse(meters, tenant_meters, cost)
  local longest, longest_ms, index = nil, -1, -1
  for at = 1, #meters do
    local wait = wait_ms(meters[at], cost)
    if wait > longest_ms then longest, longest_ms, index = meters[at], wait, at - 1 end
  end
  for at = 1, #tenant_meters do
    local wait = wait_ms(tenant_meters[at], cost)
    if wait > longest_ms then longest, longest_ms, index = tenant_meters[at], wait, #meters + at - 1 end
  end
  local code = (longest.kind == DAY or longest.kind == MONTH) and QUOTA or LIMITED
  return code, index, longest.free > 0 and longest.free or 0, reset_ms(longest), longest_ms
end

local function has_room(meters, cost)
  for at = 1, #meters do
    if meters[at].free < cost then return false end
  end
  return true
end

local function charge(record, meters, cost)
  if #meters == 0 then return end
  for at = 1, #meters do
    local meter = meters[at]
    meter.free = meter.free - cost
    meter.charged = meter.charged + cost
  end
  mark_written(record)
end

-- Each set is asked at once for all claims of the batch: `asked` are their members, `made` those that this batch takes.
local claim_sets, claims_of, member_of, is_taken = nil, nil, nil, {}

local function read_claims()
  claim_sets, claims_of, member_of = {}, {}, {}
  local packed = ARGV[6]
  for at = 1, #packed, 34 do
    local number, member = struct.unpack('<I2c32', packed, at)
    local set = claim_sets[number]
    if not set then
      set = { key = KEYS[record_count + 1 + number], numbers = {}, asked = {}, made = {}, until_ms = 0 }
      claim_sets[number] = set
    end
    local claim = (at + 33) / 34
    claims_of[claim], member_of[claim] = set, member
    set.numbers[#set.numbers + 1] = claim
    set.asked[#set.asked + 1] = member
  end
  for number = 1, #claim_sets do
    local set = claim_sets[number]
    local found = redis.call('SMISMEMBER', set.key, unpack(set.asked))
    for at = 1, #found do
      is_taken[set.numbers[at]] = found[at] == 1
    end
  end
end

local function is_claimed(claim)
  if not claim_sets then read_claims() end
  return is_taken[claim]
end

local function make_claim(claim, until_ms)
  local set = claims_of[claim]
  is_taken[claim] = true
  set.made[#set.made + 1] = member_of[claim]
  set.until_ms = math.max(set.until_ms, until_ms)
end

local function decide(
  token_index,
  token_version,
  tenant_index,
  tenant_version,
  cost,
  claim,
  not_before_ms,
  not_after_ms,
  claim_until_ms
)
  local token = records[token_index] or read_record(token_index, token_version)
  local code = check_record(token, token_version)
  local tenant_meters = no_meters
  local tenant
  if tenant_index ~= 0 and (not code or code == MOVED) then
    tenant = records[tenant_index] or read_record(tenant_index, tenant_version)
    local tenant_code = check_record(tenant, tenant_version)
    -- A tenant cannot be deleted before its tokens: without one the store is damaged, and the caller is not to blame.
    if tenant_code == UNKNOWN then tenant_code = UNREADABLE end
    code = code or tenant_code
    tenant_meters = tenant.meters
  end
  if code then return code, 255, 0, 0, 0 end

  local meters = token.meters
  if not_after_ms ~= 0 and now_ms >= not_after_ms then return answer(TOO_LATE, meters, tenant_meters) end
  if now_ms < not_before_ms then return answer(TOO_EARLY, meters, tenant_meters) end
  if claim ~= 0 and is_claimed(claim) then return answer(REPLAYED, meters, tenant_meters) end

  if cost > 0 then
    if not (has_room(meters, cost) and has_room(tenant_meters, cost)) then
      return refuse(meters, tenant_meters, cost)
    end
    charge(token, meters, cost)
    if tenant then charge(tenant, tenant_meters, cost) end
  end
  if claim ~= 0 then make_claim(claim, claim_until_ms) end
  return answer(cost > 0 and ADMITTED or CONFIRMED, meters, tenant_meters)
end

-- Token and tenant of a request, when both are as the sidecar knows them.
local function records_of_request(request)
  local token_index, token_version, tenant_index, tenant_version = struct.unpack('<I2I4I2I4', batch, 3 + request * 36)
  local token = records[token_index] or read_record(token_index, token_version)
  local tenant = records[tenant_index] or read_record(tenant_index, tenant_version)
  if check_record(token, token_version) or check_record(tenant, tenant_version) then return nil end
  return token, tenant
end

local function return_units(record, units, at_ms)
  for at = 1, #record.meters do
    local meter = record.meters[at]
    local kind, charged_at_ms = meter.kind, at_ms - lease_ms
    if kind == SLIDING_WINDOW then
      sliding_return(meter, units, at_ms, now_ms)
    elseif kind == FIXED_WINDOW then
      period_return(meter, units, math.floor(charged_at_ms / meter.window_ms))
    elseif kind == DAY then
      period_return(meter, units, (day_period(charged_at_ms)))
    elseif kind == MONTH then
      period_return(meter, units, (month_period(charged_at_ms)))
    end
  end
  if #record.meters > 0 then mark_written(record) end
end

-- Gives back what was left of a lease. Only where nothing has changed since: under another version or mark it cannot be
-- told what of the counters it was, and units that are lost come back with the window; none may ever be created.
local function give_back(request, units, at_ms, token_mark, tenant_mark)
  local token, tenant = records_of_request(request)
  if not token or token.mark ~= token_mark or tenant.mark ~= tenant_mark then return end
  return_units(token, units, at_ms)
  return_units(tenant, units, at_ms)
end

-- How much of `units` may be charged in advance. In the last moments of a period nothing is: it would be used in the
-- next one. A bucket has no place for what is used later than it was charged.
local function leasable(meters, units)
  for at = 1, #meters do
    local meter = meters[at]
    if meter.kind == TOKEN_BUCKET then return 0 end
    if meter.ends_ms and meter.ends_ms - now_ms <= lease_ms then return 0 end
    units = math.min(units, math.floor(meter.free / lease_share))
  end
  return units
end

local function charge_lease(record, units)
  local meters = record.meters
  for at = 1, #meters do
    if meters[at].kind == SLIDING_WINDOW then sliding_date(meters[at], now_ms, lease_ms) end
  end
  charge(record, meters, units)
  if not record.mark then mark(record, now_us) end
end

-- Charges a lease for the token of an admitted request, behind all requests of the batch.
local function grant(request, units, code)
  local token, tenant = nil, nil
  if code == ADMITTED then token, tenant = records_of_request(request) end
  local granted = token and leasable(tenant.meters, leasable(token.meters, units)) or 0
  if granted < lease_min then return struct.pack('<I4BI6I6I8I8', 0, 255, 0, 0, 0, 0) end
  charge_lease(token, granted)
  charge_lease(tenant, granted)
  local _, limit, remaining, reset = answer(code, token.meters, tenant.meters)
  return struct.pack('<I4BI6I6I8I8', granted, limit, remaining, reset, token.mark, tenant.mark)
end

local leases = ARGV[5] or ''
for at = 1, #leases, 28 do
  local request, units, dated_ms, token_mark, tenant_mark = struct.unpack('<I2I4I6I8I8', leases, at)
  if dated_ms ~= 0 then give_back(request, units, dated_ms, token_mark, tenant_mark) end
end

local verdicts, codes = {}, {}
for at = 3, #batch, 36 do
  local code, limit, remaining, reset, retry = decide(struct.unpack('<I2I4I2I4I4I2I6I6I6', batch, at))
  codes[#codes + 1] = code
  verdicts[#verdicts + 1] = struct.pack('<BBI6I6I6', code, limit, remaining, reset, retry)
end

local granted = ''
for at = 1, #leases, 28 do
  local request, units, dated_ms = struct.unpack('<I2I4I6', leases, at)
  granted = granted .. grant(request, units, dated_ms == 0 and codes[request + 1] or 0)
end

local reply = { now_ms, table.concat(verdicts) }
for at = 1, #moved do
  local index = moved[at]
  reply[#reply + 1] = index
  reply[#reply + 1] = records[index].json or redis.call('HGET', KEYS[index + 1], 'record')
end

if ARGV[4] == 'preview' then
  for index = 1, record_count do
    local meters, states = records[index] and records[index].meters or no_meters, ''
    for at = 1, #meters do
      local meter = meters[at]
      meter.free, meter.charged = meter.free + meter.charged, 0
      states = states .. struct.pack('<I6I6I6', meter.free > 0 and meter.free or 0, meter.capacity, reset_ms(meter))
    end
    reply[#reply + 1] = states
  end
  return reply
end

if granted ~= '' then reply[#reply + 1] = granted end

-- Everything is packed before the first write.
for at = 1, #written do
  local record = written[at]
  local meters, packed = record.meters, ''
  for meter_at = 1, #meters do
    packed = packed .. close_meter(meters[meter_at])
  end
  record.packed = packed
end
for at = 1, #written do
  redis.call('HSET', KEYS[written[at].index + 1], 'counters', written[at].packed)
end
for at = 1, #marked do
  redis.call('HSET', KEYS[marked[at].index + 1], 'leased', marked[at].mark)
end
for number = 1, claim_sets and #claim_sets or 0 do
  local set = claim_sets[number]
  if #set.made > 0 then
    redis.call('SADD', set.key, unpack(set.made))
    redis.call('PEXPIRE', set.key, math.max(1, set.until_ms - now_ms))
  end
end

return reply
